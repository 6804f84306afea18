"""Reads sources; writes the Lake and the FeatureStore.   ingest -> transform -> validate -> materialize"""
