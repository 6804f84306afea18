"""FTI: one declaration of a use case, three pipelines (feature, training, inference)."""
