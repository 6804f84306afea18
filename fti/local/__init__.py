"""The servers of `fti up` on one machine, their ports, and Dagster's instance."""
