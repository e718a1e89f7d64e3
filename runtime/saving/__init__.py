"""A pruned model on the disk: weights, record and card, whole or not at all."""
