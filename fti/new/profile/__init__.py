"""What is in a table: its columns, times, entities, label and leaks."""
