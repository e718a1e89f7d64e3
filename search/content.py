"""What a run was begun with: hashes of its model, texts, windows and space, and versions of packages."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pzc.compiler.language.spaces import Op
from pzc.compiler.structure import key
from pzc.runtime.models.loading import OF_TENSORS, Loaded, hash_tensors
from pzc.runtime.saving.checkpoint import versions
from pzc.search.errors import StoreError
from pzc.search.space import load_space, written_out


def windows_sha256(*windows: Tensor) -> str:
    """A hash of the tokens `[n, length]` that statistics, fitness and the last contest are taken from."""
    return hashlib.sha256(b"".join(w.numpy().astype("<i8").tobytes() for w in windows)).hexdigest()


def model_sha256(loaded: Loaded, kept: Mapping[str, Any]) -> str:
    """The hash of a model as that of the run is, by its tensors if that was in memory, else as it is usual."""
    by_tensors = str(kept.get("model_sha256", "")).startswith(OF_TENSORS)
    return hash_tensors(loaded.model) if by_tensors else loaded.sha256


def space_sha256(reference: str) -> str:
    """A hash of what a space says and what its functions mean, whatever the layout, the comments and the file."""
    spec = load_space(reference)
    ops = [(op.name, op.arity, op.core, _meaning(op), weight) for op, weight in (*spec.ops, *spec.reductions)]
    said = (spec.name, spec.leaves, ops, spec.exponents, spec.depth, spec.size, spec.nesting, spec.tier, spec.per)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _meaning(op: Op) -> list[str]:
    """Hashes of an operation's function, written out."""
    return ["" if core is None else key(core).hex() for core in written_out(op.function)] if op.function else []


def check_same(kept: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Raise StoreError unless the model, the texts, the windows and the space have the content that the run began
    with."""
    for name, now in content.items():
        if kept.get(name) != now:
            what = name.removesuffix("_sha256").replace("_", " ")
            hashes = f"{_short(kept[name]) if name in kept else 'not noted'} then, {_short(now)} now"
            raise StoreError(
                f"the {what} is not the one that this search began with: {hashes}", "start a new search for it"
            )


def _short(sha256: Any) -> str:
    return " and ".join(str(s)[:12] for s in (sha256 if isinstance(sha256, list) else [sha256]))


class OtherVersions(UserWarning):
    """A run goes on with other versions of packages than it began with."""


def warn_of_other_versions(kept: Mapping[str, Any]) -> None:
    """Warn of packages whose versions are not those that the run began with."""
    now, then = versions(), kept.get("versions", {})
    changed = [f"{name} {then[name]} then, {now[name]} now" for name in now if name in then and then[name] != now[name]]
    if changed:
        text = f"the search goes on with other versions than it began with ({'; '.join(changed)}): results may differ"
        warnings.warn(OtherVersions(text), stacklevel=3)
