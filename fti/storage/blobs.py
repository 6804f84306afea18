"""Blobs: whole files below one address, a folder of this machine or `s3://bucket/prefix` of any S3 API.

The same few verbs on both. A blob is there whole or not at all, and on the disk (or acknowledged by the server) when
the verb returns. `create` writes only what is not there yet: it is the one condition that every store knows.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fti.errors import DataError
from fti.storage.bucket import Bucket
from fti.storage.folder import Folder

__all__ = ["Blobs", "Bucket", "Folder", "open_blobs"]

Blobs = Folder | Bucket


def open_blobs(uri: str) -> Blobs:
    """The blobs below `uri`: a path, or `s3://bucket/prefix`. DataError for any other kind of address."""
    if "://" not in uri:
        return Folder(uri)
    if uri.startswith("s3://") and urlsplit(uri).netloc:
        return Bucket(uri.rstrip("/"))
    raise DataError(f"{uri}: state lives in a folder or below s3://bucket/prefix, not here. Correct the address.")
