"""Prune real models: load, gather statistics, score, mask, evaluate, save."""
