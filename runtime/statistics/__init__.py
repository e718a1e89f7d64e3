"""What the leaves of a metric read: gathered while a model runs."""
