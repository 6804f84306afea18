"""Raw rows and features by day: ingest, transform, validate, materialize."""
