"""Canonical JSON as in RFC 8785: sorted keys, no spaces, numbers as ECMAScript prints them.

Equal values have equal bytes, so that a hash of the bytes identifies the value.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any


def number(value: float) -> str:
    """The shortest decimal that reads back as the same float64, laid out as ECMAScript's Number::toString does.

    `2`, `0.00001`, `1e-7`, `1e+21`. Raises ValueError for NaN and infinity, which JSON does not have.
    """
    if not math.isfinite(value):
        raise ValueError(f"JSON has no number {value}")
    if value == 0:
        return "0"  # minus zero too
    sign, parts, exponent = Decimal(repr(float(value))).as_tuple()
    text = "".join(map(str, parts))
    digits = text.rstrip("0")
    point = len(text) + int(exponent)  # the digits before the decimal point, below zero: zeros behind it
    if 0 < point <= 21:
        whole = digits[:point].ljust(point, "0")
        result = f"{whole}.{digits[point:]}" if digits[point:] else whole
    elif -6 < point <= 0:
        result = "0." + "0" * -point + digits
    else:
        result = digits[0] + ("." + digits[1:] if digits[1:] else "") + f"e{point - 1:+d}"
    return "-" + result if sign else result


def dumps(value: Any) -> str:
    """A value of dicts, lists, strings, numbers, booleans and None as canonical JSON. Not for deep values.

    Raises ValueError for a number that is not finite, TypeError for what JSON does not know.
    """
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be"))  # the order of ECMAScript's strings
        return "{" + ",".join(f"{dumps(str(key))}:{dumps(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return number(value)
    raise TypeError(f"JSON has no {type(value).__name__}")
