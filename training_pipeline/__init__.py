"""Reads the FeatureStore; writes the DatasetStore and the ModelRegistry.   dataset -> tune -> train -> evaluate -> promote"""
