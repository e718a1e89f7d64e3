"""The same run on a model larger than memory, one decoder block at a time."""
