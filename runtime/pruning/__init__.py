"""A pruning run: what is asked, which layers share a group, masks, updates, weights."""
