"""Text: where it comes from, and the windows of tokens cut from it."""
