"""Events that wait for the consumer."""
