"""What decides a feature's values, as hashes: of sources, views and rows; and what changed since."""
