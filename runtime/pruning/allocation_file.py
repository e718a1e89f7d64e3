"""Files of sparsities, by block or by layer."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pzc.runtime.errors import PruningError


def read_allocation(path: Path | str) -> dict[str, Any]:
    """What an allocation file says, TOML or JSON (`.json`): either `blocks`, a sparsity for each decoder block in
    order, of which only the ratios count; or `layers`, a table of patterns of layer names, as roles have them, and
    sparsities, the first that matches counting; all other layers get what is left. Raises PruningError for any other
    content."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise PruningError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise PruningError(f"the allocation file {path} is no {kind}: {error}") from error
    return check_allocation(content, str(path))


def check_allocation(content: Any, name: str) -> dict[str, Any]:
    """The content of an allocation file, or the same from Python, if it is one; else raise PruningError."""
    if not isinstance(content, Mapping) or len(content) != 1 or next(iter(content)) not in ("blocks", "layers"):
        raise PruningError(f"{name} holds no allocation", hint="write `blocks = […]`, or a table `[layers]`")
    ((kind, values),) = content.items()
    if not isinstance(values, list | tuple if kind == "blocks" else Mapping) or not values:
        wanted = "a list of sparsities" if kind == "blocks" else "a table of sparsities by layer"
        raise PruningError(f"`{kind}` of {name} is no {wanted.removeprefix('a ')}", hint=f"write {wanted}")
    entries: dict[Any, Any] = dict(values.items() if isinstance(values, Mapping) else enumerate(values))
    for at, value in entries.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise PruningError(
                f"{name}: `{value}` for {at if kind == 'layers' else f'block {at}'} is no sparsity",
                hint="write a number from 0, which leaves a layer dense, to below 1",
            )
    return {kind: values}
