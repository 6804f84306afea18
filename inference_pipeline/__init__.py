"""Reads FeatureStore and ModelRegistry; writes the PredictionLog.   predict -> service -> batch -> drift -> retrain"""
