"""Where durable state lives: blobs (files in a folder or objects in a bucket), logs of table versions, SQL, locks.

Imports nothing of FTI but its errors, so that a plugin of another tool can stand on it.
"""
