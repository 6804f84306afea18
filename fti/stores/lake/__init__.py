"""Raw and feature rows as tables that are logs of versions."""
