"""pzc: the language, compiler, runtime and search engine for pruning metrics.

    import pzc
    wanda = pzc.load("wanda")
    scores = wanda.score(W=weight, X=norms)         # [out, in]
    pzc.prune(model, wanda, windows=tokens)         # a transformers model in memory, in place
    pzc.apply_masks(model, pzc.read_masks(file).masks)
    pzc.register_leaf(pzc.Leaf(…), collect)         # a statistic of one's own

torch is imported only by what needs it: loading and compiling metrics does not.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pzc.compiler.leaves import Leaf
from pzc.compiler.load import MetricNotFound, load, zoo
from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import SourceError

if TYPE_CHECKING:
    from pzc.compiler.paper import TreeError as TreeError
    from pzc.compiler.paper import import_paper_tree as import_paper_tree
    from pzc.runtime.errors import PruningError as PruningError
    from pzc.runtime.leaves import register_leaf as register_leaf
    from pzc.runtime.leaves import unregister_leaf as unregister_leaf
    from pzc.runtime.mask_files import apply_masks as apply_masks
    from pzc.runtime.mask_files import read_masks as read_masks
    from pzc.runtime.mask_files import write_masks as write_masks
    from pzc.runtime.prune import prune as prune

__version__ = version("pzc")
__all__ = [
    "Leaf",
    "Metric",
    "MetricNotFound",
    "PruningError",
    "SourceError",
    "TreeError",
    "__version__",
    "apply_masks",
    "import_paper_tree",
    "load",
    "prune",
    "read_masks",
    "register_leaf",
    "unregister_leaf",
    "write_masks",
    "zoo",
]

_LATER = {
    "PruningError": "pzc.runtime.errors",
    "TreeError": "pzc.compiler.paper",
    "apply_masks": "pzc.runtime.mask_files",
    "import_paper_tree": "pzc.compiler.paper",
    "prune": "pzc.runtime.prune",
    "read_masks": "pzc.runtime.mask_files",
    "register_leaf": "pzc.runtime.leaves",
    "unregister_leaf": "pzc.runtime.leaves",
    "write_masks": "pzc.runtime.mask_files",
}
"""What is imported when it is first used, and from where."""


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'pzc' has no attribute {name!r}")
