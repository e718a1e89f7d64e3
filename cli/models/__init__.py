"""Commands about a model: planning, pruning, measuring."""
