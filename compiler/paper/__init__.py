"""Pruner-Zero's own ways: the trees of its release, and its opposing-operation simplification."""
