"""Events, one by one, to the same features:   service -> event log -> consumer -> Lake and FeatureStore -> compact"""
