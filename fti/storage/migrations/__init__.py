"""Migrations of FTI's own tables, run by `fti.storage.sql`."""
