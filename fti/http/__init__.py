"""What the prediction service and the ingest service stand on: routes and errors, groups of requests, typed fields."""
