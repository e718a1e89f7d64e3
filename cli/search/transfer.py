"""`pzc search transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.console import change_text, errors, formula, output, print_json, progress, say, shortened, warn

if TYPE_CHECKING:
    from pzc.runtime.errors import PruningError
    from pzc.runtime.scoring.masks import Target
    from pzc.search.reading import Run
    from pzc.search.transfer import Transferred


@click.command("transfer")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--model", "-m", "models", multiple=True, metavar="MODEL", help="A model; may be repeated. [default: the run's own]"
)
@options.several_sparsities()
@options.several_patterns(" [default for both: the run's own]")
@options.per
@options.chosen_layers
@click.option("--data", "-d", metavar="TEXT", help="Text to calibrate on. [default: the run's own]")
@click.option(
    "--eval-data",
    metavar="TEXT",
    help="Text to evaluate on. [default: the run's own; of a --data that is given the part that calibration does not "
    "read]",
)
@click.option("--windows", "-n", type=click.IntRange(1), help="Calibration windows. [default: the run's own]")
@click.option("--eval-windows", type=click.IntRange(2), default=64, show_default=True, help="Evaluation windows.")
@click.option(
    "--length",
    "-l",
    type=click.IntRange(2),
    help="Tokens a window. [default: the run's own; where models are given 512, or the most that each reads]",
)
@click.option(
    "--members", type=click.IntRange(1), default=3, show_default=True, help="How many of the hall of fame to try."
)
@click.option(
    "--zoo",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="How many of the best published metrics to compare with.",
)
@options.stored
@options.device
@options.dtype
@options.threads
@options.trust
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, folder: Path, models: tuple[str, ...], device: str,
    trust_remote_code: bool, members: int, zoo: int, storage: str | None, study: str,
    as_csv: bool, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Say how the metrics that a search found do on other models, texts and targets.

    Each is compared with the best published metric of the same model, text and target, over the same windows; the
    change comes with its standard error. That metric is chosen on the windows that measure it, which favours it.
    Layers are chosen as in the run, unless --include or --exclude is given (--include '*': all).

    \b
    pzc search transfer runs/first --model smollm2 --data train.txt --eval-data test.txt
    pzc search transfer runs/first --pattern 2:4 --pattern 4:8
    pzc search transfer runs/first --sparsity 0.4 --sparsity 0.6 --csv
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json print different things; give one of them", ctx)
    from pzc.cli.texts import texts_of
    from pzc.runtime.files import csv_text
    from pzc.runtime.models.loading import load_model
    from pzc.search.place import Place
    from pzc.search.reading import read_run
    from pzc.search.transfer import entries, fitting, keep, kept, transfer

    run = read_run(Place(folder, storage, study))
    how = _completed(how, run, models)
    targets = _targets(how, run)
    if how["per"] and all(target.pattern for target in targets):
        raise click.UsageError("the only target is a pattern, which replaces --per", ctx)
    chosen = {name: how[name] for name in ("include", "exclude")}
    if not any(chosen.values()):
        chosen = run.chosen_layers
    tried = entries(run, members, zoo)
    leaves = frozenset().union(*(e.metric.leaves for e in tried))
    kept(folder)  # a file that is no such record shows before anything is measured
    found: list[list[Transferred]] = []
    refused: list[PruningError] = []
    written: Path | None = None
    with progress(quiet or as_json or as_csv) as bar:
        for model in models or (str(run.settings["model"]),):
            loaded = load_model(model, device=device, dtype=how["dtype"], trust_remote_code=trust_remote_code)
            fits, misfits = fitting(loaded, targets, **chosen)
            for error in misfits:
                errors.print(f"left out for {model}: {error.message}", markup=False, soft_wrap=True)
            refused += misfits
            if not fits:
                continue
            texts = texts_of(loaded, leaves, how)
            new = list(transfer(loaded, model, tried, texts, fits, **chosen, seed=how["seed"], progress=bar))
            found += new
            try:  # after each model: the next may not load
                written = keep(folder, _rows(new))
            except OSError as error:  # somebody else's run: what was measured is worth showing all the same
                warn(f"what was measured of {model} is not kept for a report: {error.strerror}")
    if not found:
        raise refused[0]
    table = _rows(found)
    if as_json:
        print_json(table)
    elif as_csv:
        output.file.write(csv_text(list(table[0]), table))
    else:
        for rows in found:
            _show(rows)
        say(f"{how['eval_windows']} windows; ± is the standard error over paired windows")
        if written:
            say(f"kept in {written}   next: pzc report {run.place.typed}")
    ctx.exit(0 if any(not t.failure for rows in found for t in rows) else 1)


def _rows(found: Sequence[Sequence[Transferred]]) -> list[dict[str, Any]]:
    from pzc.search.transfer import as_row

    return [as_row(t) for rows in found for t in rows]


def _completed(how: dict[str, Any], run: Run, models: Sequence[str]) -> dict[str, Any]:
    """The options, with what was not given as the run has it. A text that is given has an evaluation side of its own,
    and another model may have another type and read windows of another length."""
    kept = {name: how[name] or run.settings.get(name) for name in ("data", "windows")}
    if not how["data"]:
        kept["eval_data"] = how["eval_data"] or run.settings.get("eval_data")
    for name in ("length", "dtype"):
        kept[name] = how[name] or (None if models else run.settings.get(name))
    return {**how, **kept, "seed": int(run.settings.get("seed", 0))}


def _targets(how: dict[str, Any], run: Run) -> list[Target]:
    from pzc.runtime.scoring.masks import Target, parse_pattern

    patterns, sparsities = how["patterns"], how["sparsities"]
    if not patterns and not sparsities:
        own = run.settings.get("pattern")
        patterns, sparsities = ((own,), ()) if own else ((), (float(run.settings["sparsity"]),))
    sparse = [Target(how["per"], s) for s in sparsities]
    return list(dict.fromkeys([*sparse, *(Target(pattern=parse_pattern(p)) for p in patterns)]))


def _show(rows: Sequence[Transferred]) -> None:
    first = rows[0]
    table = Table(
        title=Text(f"{first.model} · {first.target} · {first.text} · dense {first.dense:.2f}", style="bold"),
        title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for heading, justify in (
        ("metric", "left"),
        ("formula", "left"),
        ("per", "left"),
        ("perplexity", "right"),
        (f"against {first.best}" if first.best else "change", "right"),
    ):
        table.add_column(heading, justify=justify, header_style="dim", overflow="fold", no_wrap=heading != "formula")  # type: ignore[arg-type]
    for t in rows:
        table.add_row(
            Text(t.entry.name, style="" if t.entry.published else "bold"),
            formula(shortened(t.entry.metric.formula)),
            t.per,
            Text("refused", style="error") if t.failure else f"{t.perplexity:.2f}",
            _change(t),
        )
    output.print(table)
    for t in rows:
        if t.failure:
            errors.print(f"{t.entry.name}: {t.failure}", style="dim", markup=False, soft_wrap=True)
    output.print()


def _change(t: Transferred) -> Text:
    """How far a metric is from the best published one, green where it is below by more than two standard errors."""
    if t.failure or not t.best:
        return Text("")
    if t.entry.name == t.best:
        return Text("best of the zoo", style="dim")
    text = change_text(t.ratio - 1, t.error)
    return Text(text, style="good" if t.ratio - 1 < -2 * t.error else "")
