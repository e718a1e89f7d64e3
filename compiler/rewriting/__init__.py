"""Canonical forms and rank forms: the laws as data, the engine that applies them, and the way back."""
