"""Numbers as the page writes them."""

from __future__ import annotations

import math

from pzc.runtime.evaluation.uncertainty import Estimate


def perplexity(value: float) -> str:
    """Four significant digits, as a rule two decimals: `14.52`, `2,898`."""
    if not math.isfinite(value):
        return "–"
    digits = max(0, 3 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:,.{min(digits, 3)}f}"


def percent(share: float, decimals: int = 1, *, signed: bool = False) -> str:
    """`12.3 %`, with the minus sign of typography; what is rounded to nothing has no sign."""
    if not math.isfinite(share):
        return "–"
    if round(100 * share, decimals) == 0:
        share, signed = 0.0, False
    return f"{100 * share:{'+' if signed else ''}.{decimals}f}\N{NO-BREAK SPACE}%".replace("-", "−")


def change(share: Estimate) -> str:
    """A change with its standard error: `−1.9 % ± 0.5 %`."""
    return percent(share.value, signed=True) + plus_minus(share)


def plus_minus(share: Estimate) -> str:
    """The standard error of a share, ` ± 0.5 %`; nothing where it is not known."""
    return f" ±\N{NO-BREAK SPACE}{percent(share.error)}" if math.isfinite(share.error) else ""


def duration(seconds: float) -> str:
    """`47 s`, `12 min`, `1 h 5 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def joined(parts: list[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
