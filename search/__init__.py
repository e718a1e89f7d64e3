"""Evolve metrics: space, variation, identity, fitness, store, live view."""
