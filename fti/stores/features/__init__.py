"""The feature store: Feast, with an offline and an online store of our own."""
