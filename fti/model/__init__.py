"""What training writes and serving reads: the encoder, the network or trees, their bundle, predictions, drift."""
