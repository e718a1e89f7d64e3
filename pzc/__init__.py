"""pzc: the language, compiler, runtime and search engine for pruning metrics.

    import pzc
    wanda = pzc.load("wanda")
    scores = wanda.score(W=weight, X=norms)         # [out, in]
    pzc.prune(model, wanda, windows=tokens)         # a transformers model in memory, in place
    pzc.search_metrics("runs/mine", limit=300).best # a better one
    pzc.apply_masks(model, pzc.read_masks(file).masks)
    pzc.register_leaf(pzc.Leaf(…), collect)         # a statistic of one's own

Everything is imported when it is first used: loading and compiling metrics needs no torch, and an interrupt finds the
command line ready for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pzc.compiler.leaves import Leaf as Leaf
    from pzc.compiler.load import MetricNotFound as MetricNotFound
    from pzc.compiler.load import load as load
    from pzc.compiler.load import zoo as zoo
    from pzc.compiler.metric import Metric as Metric
    from pzc.compiler.paper.trees import TreeError as TreeError
    from pzc.compiler.paper.trees import import_paper_tree as import_paper_tree
    from pzc.grammar.diagnostics import SourceError as SourceError
    from pzc.runtime.data.calibration import calibration_tokens as calibration_tokens
    from pzc.runtime.errors import PruningError as PruningError
    from pzc.runtime.models.loading import load_model as load_model
    from pzc.runtime.pruning.mask_files import apply_masks as apply_masks
    from pzc.runtime.pruning.mask_files import read_masks as read_masks
    from pzc.runtime.pruning.mask_files import write_masks as write_masks
    from pzc.runtime.pruning.prune import prune as prune
    from pzc.runtime.pruning.prune import prune_each as prune_each
    from pzc.runtime.statistics.leaves import register_leaf as register_leaf
    from pzc.runtime.statistics.leaves import unregister_leaf as unregister_leaf
    from pzc.search.errors import StoreError as StoreError
    from pzc.search.lead import search_metrics as search_metrics

__version__: str
__all__ = [
    "Leaf",
    "Metric",
    "MetricNotFound",
    "PruningError",
    "SourceError",
    "StoreError",
    "TreeError",
    "__version__",
    "apply_masks",
    "calibration_tokens",
    "import_paper_tree",
    "load",
    "load_model",
    "prune",
    "prune_each",
    "read_masks",
    "register_leaf",
    "search_metrics",
    "unregister_leaf",
    "write_masks",
    "zoo",
]

_LATER = {
    "Leaf": "pzc.compiler.leaves",
    "Metric": "pzc.compiler.metric",
    "MetricNotFound": "pzc.compiler.load",
    "PruningError": "pzc.runtime.errors",
    "SourceError": "pzc.grammar.diagnostics",
    "StoreError": "pzc.search.errors",
    "TreeError": "pzc.compiler.paper.trees",
    "apply_masks": "pzc.runtime.pruning.mask_files",
    "calibration_tokens": "pzc.runtime.data.calibration",
    "import_paper_tree": "pzc.compiler.paper.trees",
    "load": "pzc.compiler.load",
    "load_model": "pzc.runtime.models.loading",
    "prune": "pzc.runtime.pruning.prune",
    "prune_each": "pzc.runtime.pruning.prune",
    "read_masks": "pzc.runtime.pruning.mask_files",
    "register_leaf": "pzc.runtime.statistics.leaves",
    "search_metrics": "pzc.search.lead",
    "unregister_leaf": "pzc.runtime.statistics.leaves",
    "write_masks": "pzc.runtime.pruning.mask_files",
    "zoo": "pzc.compiler.load",
}
"""What is imported when it is first used, and from where."""


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("pzc")
    raise AttributeError(f"module 'pzc' has no attribute {name!r}")
