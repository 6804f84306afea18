"""The training as a job, and what starts it."""
