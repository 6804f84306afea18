"""The use cases shipped with FTI: pure functions and one `project` each."""
