"""`pzc report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pzc.cli import options
from pzc.cli.console import output, print_json, progress, say


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write into. [default: report/ in the run's folder]",
)
@click.option(
    "--against",
    multiple=True,
    metavar="RUN",
    help="Another run on the same model, text and windows, drawn beside this one: its folder or, with --storage, its "
    "study there; may be repeated.",
)
@click.option(
    "--model",
    "-m",
    metavar="MODEL",
    help="The run's model, if it is elsewhere now than when the run began.",
)
@click.option(
    "--no-model", is_flag=True, help="Leave out what needs the model: masks, sparsity, calibration, patterns."
)
@click.option(
    "--eval-windows", type=click.IntRange(2), help="Held-out windows to measure with. [default: as many as the run has]"
)
@options.stored
@options.device
@options.threads
@options.trust
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, folder: Path, output: Path | None, against: tuple[str, ...], model: str | None,
    no_model: bool, eval_windows: int | None, storage: str | None,
    study: str, device: str, trust_remote_code: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Write what a search has found, and what it shows, as one page with figures.

    The page needs no network and follows the reader's light or dark theme; the figures lie beside it as PNG files.

    \b
    pzc report runs/first
    pzc report runs/first --against runs/random --output out/report
    pzc report runs/first --no-model
    """
    if model and no_model:
        raise click.UsageError("--model names the model and --no-model leaves it out; give one of them", ctx)
    from pzc.cli.lexer import coloured
    from pzc.runtime.evaluation.plots import check_matplotlib
    from pzc.search.place import JOURNAL, Place
    from pzc.search.reading import check_comparable, read_run
    from pzc.search.transfer import kept

    check_matplotlib()

    def another(name: str) -> Place:
        """The folder of this name, if a run is kept in it, else the study."""
        there = (Path(name) / JOURNAL).is_file()
        return Place(Path(name), storage, name) if storage and not there else Place(Path(name))

    run = read_run(Place(folder, storage, study)).with_model_at(model)
    others = [read_run(another(name)) for name in against]
    for other in others:
        check_comparable(run, other)
    kept(run.folder)  # a file that is no record of transfers shows before anything is measured
    from pzc.runtime.files import check_writable
    from pzc.search.report.measure import measure
    from pzc.search.report.write import write

    into = output or folder / "report"
    check_writable(into / "report.html")
    silent = quiet or as_json
    with progress(silent) as bar:
        how: dict[str, Any] = {"device": device, "trust_remote_code": trust_remote_code, "eval_windows": eval_windows}
        measured = None if no_model else measure(run, **how, progress=bar)
        written = write(run, into, others=others, measured=measured, colour=coloured, progress=bar)
    if as_json:
        pictures = {name: [str(path) for path in paths] for name, paths in written.figures.items()}
        print_json({"page": str(written.page), "figures": pictures})
        return
    _show(written.page, len(written.figures))


def _show(page: Path, figures: int) -> None:
    output.print(str(page), soft_wrap=True, markup=False)
    say(f"{figures} figures beside it, each for light and for dark pages")
