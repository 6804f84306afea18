"""The two files of a project on a table, from its profile."""
