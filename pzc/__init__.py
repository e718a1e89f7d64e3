"""pzc: the language, compiler, runtime and search engine for pruning metrics.

    import pzc
    wanda = pzc.load("wanda")
    scores = wanda.score(W=weight, X=norms)         # [out, in]
    pzc.prune(model, wanda, windows=tokens)         # a transformers model in memory, in place

torch is imported only by what needs it: loading and compiling metrics does not.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pzc.compiler.load import MetricNotFound, load, zoo
from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import SourceError

if TYPE_CHECKING:
    from pzc.runtime.errors import PruningError as PruningError
    from pzc.runtime.prune import prune as prune

__version__ = version("pzc")
__all__ = ["Metric", "MetricNotFound", "PruningError", "SourceError", "__version__", "load", "prune", "zoo"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name == "prune":
        from pzc.runtime.prune import prune

        return prune
    if name == "PruningError":
        from pzc.runtime.errors import PruningError

        return PruningError
    raise AttributeError(f"module 'pzc' has no attribute {name!r}")
