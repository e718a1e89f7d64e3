"""The words of the language: those that are reserved, and what a name is."""

from __future__ import annotations

KEYWORDS = {k: k.upper() for k in ("pzm", "use", "let", "fn", "param", "metric", "space")}
"""The words that begin a statement, and their tokens."""

RESERVED = frozenset((*KEYWORDS, "per", "else", "in", "out"))
"""The words that cannot be names."""

BLANKS = " \t\f"
"""The characters of one line that separate tokens and mean nothing else."""

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
"""The pattern of a name, as `pzm.lark` has it."""
