"""Models in MLflow, and the journal of promotions."""
