"""Learning: one fit, its training and a study of many."""
