"""What learns: the network, trees, a linear model, their blend, the baseline."""
