"""`pzc compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import completion, options
from pzc.cli.cautions import NOTABLE, caution, whole_weights
from pzc.cli.console import errors, fail, formula, output, print_json, progress, say, shortened, warn
from pzc.compiler.load import load, zoo
from pzc.compiler.source import expression

if TYPE_CHECKING:
    from pzc.compiler.metric import Metric
    from pzc.runtime.evaluation.compare import Compared
    from pzc.runtime.evaluation.comparison import Row
    from pzc.runtime.evaluation.uncertainty import Estimate
    from pzc.runtime.scoring.masks import Target

LONGEST_NAME = 22
"""Characters of a metric's name in the table, so that it fits into 80 columns."""


@click.command("compare")
@click.option(
    "--metric",
    "-f",
    "references",
    multiple=True,
    metavar="METRIC",
    shell_complete=completion.metrics,
    help="A metric; may be repeated. [default: the whole zoo]",
)
@options.loading
@options.targets
@options.per
@options.chosen_layers
@options.sequential
@click.option(
    "--update",
    type=click.Choice(["none", "obs", "own"]),
    default="none",
    show_default=True,
    help="How kept weights compensate: obs for every metric; own: as published, which is for sparsegpt alone.",
)
@click.option("--kl", is_flag=True, help="Also measure KL(dense ‖ pruned); the dense model reads every window again.")
@click.option(
    "--baseline",
    type=click.Choice(["best", "first"]),
    default="best",
    show_default=True,
    help="The metric that each target's others are compared with, window by window.",
)
@options.calibration
@options.cache
@options.seed
@click.option(
    "--output", "-o", "folder", type=click.Path(path_type=Path), help="Write results.json, results.csv and plots here."
)
@click.option("--overwrite", is_flag=True, help="Replace the results in the folder.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, references: tuple[str, ...], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, cache: Path | None, kl: bool, baseline: str, folder: Path | None, overwrite: bool,
    as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune one model with several metrics and print what each costs. The model is not saved.

    Every metric is measured at every sparsity and pattern. One-shot, statistics are gathered once; with --sequential or
    --update each walks the model for itself. Perplexities come with their standard errors over the windows, changes
    with those of the paired differences. The best is chosen on the windows that measure it, which makes the others look
    worse; --baseline first compares with a metric that is named beforehand.

    \b
    pzc compare -f wanda -f my.pzm:best -m smollm2 --data text.txt
    pzc compare -f wanda -f ria -s 0.3,0.5,0.7 --pattern 2:4,4:8 --output out/grid
    pzc compare -f wanda -f sparsegpt --sequential --update own
    """
    options.check_targets(ctx, how["patterns"])
    metrics = list(dict.fromkeys([load(r) for r in references] or zoo().values()))
    from pzc.cli.texts import described, texts_of
    from pzc.runtime.evaluation.compare import compare, needed
    from pzc.runtime.evaluation.comparison import as_json as numbers
    from pzc.runtime.evaluation.comparison import names, rows, written
    from pzc.runtime.models.layers import find_layers
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.pruning.roles import idle_roles

    targets = _targets(ctx, how)
    if folder is not None:
        _check_folder(folder, overwrite)
    caution(metrics)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    layers = find_layers(loaded.model, how["include"], how["exclude"]).layers
    for sentence in (s for m in metrics if references for s in idle_roles(m, layers)):
        warn(sentence)
    way: dict[str, Any] = {name: how[name] for name in ("include", "exclude", "sequential", "update", "seed")}
    texts = texts_of(loaded, needed(metrics, targets, **way), how)
    found: list[Compared] = []
    measuring = compare(
        loaded.model, metrics, texts.calibration_windows, texts.evaluation_windows, targets, divergence=kl,
        progress=(bar := _Late()), cache=cache, **way,
    )  # fmt: skip
    try:
        with progress(quiet or as_json) as bar.shown:
            for result in measuring:
                found.append(result)
                bar("metrics", len(found), 1 + len(metrics) * len(targets))
    finally:  # what is measured so far is worth writing
        results, every = rows(found, baseline), len(metrics) * len(targets)
        files: list[str] = []
        if folder is not None and len(found) > 1:
            asked = {**how, "kl": kl, "baseline": baseline, "metrics": names(metrics)}
            about = {"complete": len(found) == 1 + every, **_about(loaded, texts, model, asked)}
            files = _written(folder, results, about, f"{model}, {_way(how)}", texts.measured_on)
            if not about["complete"]:
                say(f"stopped with {len(found) - 1} of {every} measured: {folder} has these, and says so")
    if as_json:
        print_json([numbers(row) for row in results])
        ctx.exit(1 if any(r.failure for r in found) else 0)
    output.print(_table(results, f"{model} · {', '.join(map(written, targets))} · {_way(how)}", baseline, kl))
    output.print()
    output.print(_formulas(results))
    errors.print(described(texts, how), style="dim", soft_wrap=True)
    for row in results:
        if row.compared.failure:
            at = f" at {row.target}" if len(targets) > 1 else ""
            fail(f"{row.name}{at}: {row.compared.failure}")
    for target in targets:
        _say_best(results, written(target) if len(targets) > 1 else None, target)
    _say_unequal(found)
    if files:
        say(f"wrote {folder}: {', '.join(files)}" + ("" if len(files) > 2 else "; there was nothing to draw"))
    ctx.exit(1 if any(r.failure for r in found) else 0)


def _written(folder: Path, results: list[Row], about: dict[str, Any], title: str, text: str) -> list[str]:
    """Write numbers and plots of results; the names of the files."""
    from pzc.runtime.evaluation.comparison import write
    from pzc.runtime.evaluation.plots import draw

    write(folder, results, about)
    drawn = draw(results, title, text, [folder / "perplexity.png", folder / "perplexity.svg"])
    return ["results.json", "results.csv", *(file.name for file in drawn)]


class _Late:
    """Progress that is shown once there is something to show it on."""

    shown: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.shown(stage, done, total)


def _way(how: dict[str, Any]) -> str:
    """How the metrics are run, in words."""
    update = how["update"]
    sequential = update != "none" if how["sequential"] is None else how["sequential"]
    if update == "own":
        return "sequential, SparseGPT with its update" if how["sequential"] else "SparseGPT as published"
    return ("sequential" if sequential else "one-shot") + (f", update {update}" if update != "none" else "")


def _targets(ctx: click.Context, how: dict[str, Any]) -> list[Target]:
    """The sparsities, unless patterns alone are asked for, and then the patterns."""
    from pzc.runtime.scoring.masks import Target, parse_pattern

    shares = how["sparsities"] if options.is_typed(ctx, "sparsities") or not how["patterns"] else ()
    patterns = [Target(None, Target.sparsity, parse_pattern(pattern)) for pattern in how["patterns"]]
    return [*(Target(how["per"], sparsity) for sparsity in shares), *patterns]


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raise PruningError now if the results could not be written later."""
    from pzc.runtime.errors import PruningError
    from pzc.runtime.evaluation.plots import check_matplotlib
    from pzc.runtime.files import check_writable

    check_matplotlib()
    if (folder / "results.json").exists() and not overwrite:
        raise PruningError(f"{folder} holds results already", hint="name another folder, or add --overwrite")
    check_writable(folder / "results.json")


def _about(loaded: Any, texts: Any, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What the results depend on besides the metrics."""
    from pzc.runtime.saving.checkpoint import described_text, versions

    return {
        "model": {"name": model, "sha256": loaded.sha256, "dtype": str(loaded.dtype).removeprefix("torch.")},
        "options": {**asked, "length": texts.evaluation_windows.shape[1]},
        "data": {"calibration": described_text(texts.calibration), "evaluation": described_text(texts.evaluation)},
        "versions": versions(),
    }


def _table(results: list[Row], title: str, baseline: str, kl: bool) -> Table:
    """The dense model, then a section for each target, the best first."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    headings = ["metric", "per", "sparsity", "perplexity", "±", f"to {baseline}", "±", *(["KL"] if kl else []), "s"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("metric", "per") else "right", header_style="dim")
    dense, *others = results
    _add(table, dense, kl)
    for target in dict.fromkeys(row.compared.target for row in others):
        mine = [row for row in others if row.compared.target == target]
        if len({row.compared.target for row in others}) > 1:
            table.add_row()
            table.add_row(Text(mine[0].target, style="bold"))
        for row in sorted(mine, key=_rank):
            _add(table, row, kl, best=row.perplexity.value == _best(mine))
    return table


def _rank(row: Row) -> float:
    return row.perplexity.value if math.isfinite(row.perplexity.value) else math.inf


def _best(mine: list[Row]) -> float:
    return min(map(_rank, mine), default=math.inf)


def _add(table: Table, row: Row, kl: bool, *, best: bool = False) -> None:
    r = row.compared
    change = (
        ("", "") if row.change is None else (f"{row.change.value:+.1%}", _error(row.change, f"{row.change.error:.1%}"))
    )
    divergence = "" if row.divergence is None else f"{row.divergence.value:.3f}"
    table.add_row(
        Text(_cut(row.name), style="bold", no_wrap=True),
        "" if r.target and r.target.pattern else r.per or "",
        "" if r.failure else f"{r.sparsity:.2%}",
        Text("refused", style="error") if r.failure else Text(_digits(row.perplexity.value), style="good" * best),
        _error(row.perplexity, _digits(row.perplexity.error)),
        *change,
        *([divergence] if kl else []),
        f"{r.seconds:.1f}",
    )


def _error(estimate: Estimate, text: str) -> str:
    """A standard error as its text, or nothing where one window or a refusal leaves none."""
    return "" if math.isnan(estimate.error) else text


def _digits(value: float) -> str:
    """Two decimals, fewer where a value has many digits before them."""
    return f"{value:.2f}" if value < 10_000 else f"{value:.3g}"


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]} …"


def _formulas(results: list[Row]) -> Table:
    """What each metric computes, in the order in which they were given."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in {row.name: row for row in results if row.compared.metric}.values():
        metric = row.compared.metric
        if metric is not None and (metric.name != "inline" or _cut(row.name) != row.name):
            table.add_row(Text(_cut(row.name), style="dim"), _formula(metric))
    return table


def _formula(metric: Metric) -> Text:
    """The score; of a metric by role one a line, with the layers that it is for."""
    if not metric.roles:
        return formula(shortened(metric.formula))
    lines = (f"{', '.join(arm.layers) or 'else'}: {expression(arm.core)}" for arm in metric.arms)
    return Text("\n").join(formula(shortened(line)) for line in lines)


def _say_unequal(found: list[Compared]) -> None:
    """Say so where metrics are compared that prune different shares: small groups lose less than was asked for."""
    for target in dict.fromkeys(r.target for r in found if r.target):
        shares = [r.sparsity for r in found if r.target == target and not r.failure]
        if shares and max(shares) - min(shares) > NOTABLE:
            say(whole_weights(target.share, f"{min(shares):.2%} to {max(shares):.2%}"))


def _say_best(results: list[Row], name: str | None, target: Target) -> None:
    measured = [row for row in results if row.compared.target == target and math.isfinite(row.perplexity.value)]
    if measured:
        best = min(measured, key=lambda row: row.perplexity.value)
        times = best.perplexity.value / results[0].perplexity.value
        at = f" at {name}" if name else ""
        say(f"best{at}: {best.name}, {times:.2f} times the dense model's perplexity")
