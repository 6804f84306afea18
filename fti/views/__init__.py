"""Authoring features: a view as a value, windows over events, the calendar."""
