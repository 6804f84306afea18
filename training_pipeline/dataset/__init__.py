"""The training dataset: labelled rows, their features, the splits."""
