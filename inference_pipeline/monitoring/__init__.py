"""Logged traffic against the training data, and the retraining that it asks for."""
