"""Feast's offline store on polars: point-in-time joins over the lake. On FTI's storage alone."""
