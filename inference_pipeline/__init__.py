"""Reads the FeatureStore and the ModelRegistry; writes the PredictionLog.   predict -> service -> batch -> drift -> retrain"""
