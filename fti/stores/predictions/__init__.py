"""The prediction log and its upload."""
