"""Commands as they would be typed again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def options_of(how: Mapping[str, Any], *names: str) -> str:
    """Options as they would be typed again, those that are not given left out, those given several times repeated, and
    flags without a value."""
    given = ((name.replace("_", "-"), value) for name in names for value in _each(how.get(name)))
    return "".join(
        f" --{name}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in given
        if value is not None and value is not False
    )


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else [value]
