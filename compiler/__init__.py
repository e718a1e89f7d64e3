"""Meaning: axes and signs, canonical forms and keys, graphs for numpy, torch and other targets."""
