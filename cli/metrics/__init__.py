"""Commands about metrics alone: what they say, mean and compile to."""
