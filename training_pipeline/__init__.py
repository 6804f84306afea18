"""Reads the Lake and the FeatureStore; writes the DatasetStore and the ModelRegistry.

dataset -> tune -> challenger (launch: train -> fit) -> evaluate (gates) -> promote
"""
