"""Training datasets, versioned by DVC."""
