"""`fti run`."""
