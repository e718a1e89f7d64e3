"""Commands about a search: running, joining, watching and reporting it."""
