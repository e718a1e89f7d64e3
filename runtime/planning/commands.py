"""Commands as they would be typed again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def options_of(how: Mapping[str, Any], *names: str) -> str:
    """Options as they would be typed again, those that are not given left out."""
    given = ((name.replace("_", "-"), how.get(name)) for name in names)
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given if value is not None)
