"""What a shell offers at the Tab key where click does not know: metrics, models, files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from pzc.compiler.load import zoo_names
from pzc.grammar.diagnostics import CODES

Offers = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offers(*names: Callable[[], Iterable[str]]) -> Offers:
    """These names, and where none begins so, files."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for some in names for name in some() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]

    return complete


files = _offers()
metrics = _offers(zoo_names)
metrics_and_codes = _offers(zoo_names, lambda: CODES)
models = _offers(lambda: ("pocket", "smollm2"))
texts = _offers(lambda: ("c4", "pydoc", "self", "wikitext2"))
