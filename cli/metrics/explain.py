"""`pzc explain`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pzc.cli import completion, options
from pzc.cli.console import formula, output
from pzc.cli.diagnostics import drawn
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import CODES, Diagnostic, SourceError, did_you_mean
from pzc.grammar.pages import MAIN, Page, page
from pzc.grammar.render import render


@click.command("explain")
@click.argument("what", nargs=-1, metavar="[METRIC | CODE...]", shell_complete=completion.metrics_and_codes)
@options.per
@options.parameter
@click.option("--steps", is_flag=True, help="Show how a metric's rank form is derived.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, what: tuple[str, ...], per: str | None, settings: dict[str, float], steps: bool, as_json: bool
) -> None:
    """Explain a metric: what it means, what it needs, what it costs. Or explain codes of `pzc check`, each with an
    example that is wrong and the same right.

    A metric may also be a tree of Pruner-Zero's release, FILE.json. Without an argument, all codes are listed.

    \b
    pzc explain pruner_zero --steps
    pzc explain 'abs(W) * X ^ 0.5 per row' --json
    pzc explain PZ0203
    """
    metrics = [argument for argument in what if not _CODE.fullmatch(argument)]
    if metrics:
        if len(what) > 1:
            raise click.UsageError("explain one metric at a time, or any number of codes", ctx)
        from pzc.cli.metrics.explain_metric import explain_metric

        ctx.exit(explain_metric(metrics[0], per, settings, steps, as_json))
    if per or settings or steps or as_json:
        raise click.UsageError("--per, --set, --steps and --json are for a metric", ctx)
    codes = what
    pages = [page(_code(code)) for code in codes]
    if not pages:
        output.print(_table() if output.is_terminal else _list())
    for i, each in enumerate(pages):
        if i:
            output.print()
        if output.is_terminal:
            for part in _drawn(each):
                output.print(part, soft_wrap=isinstance(part, Text))
        else:
            output.out("\n\n".join(_written(each)), highlight=False)


_CODE = re.compile(r"(?:PZ)?\d+", re.IGNORECASE)


def _code(text: str) -> str:
    """The code that is meant. Raises UsageError when there is none."""
    code = f"PZ{text.upper().removeprefix('PZ'):0>4}"
    if code in CODES:
        return code
    swapped = [c for c in CODES if sorted(c) == sorted(code)]
    hint = did_you_mean(code, swapped or [c for c in CODES if c[:4] == code[:4]])
    raise click.UsageError(f"there is no code `{text}`" + (f"; {hint}" if hint else ""))


def _table() -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for code, (severity, title) in CODES.items():
        table.add_row(f"[bold]{code}[/]", f"[{severity}]{severity}[/]", Text(title))
    return table


def _list() -> Text:
    return Text("\n".join(f"{code}  {severity:<7}  {title}" for code, (severity, title) in CODES.items()))


def what_it_prints(files: dict[str, str]) -> list[Diagnostic]:
    """What the checker says of an example now: its files are written to a folder of their own for the moment."""
    with TemporaryDirectory(prefix="pzc-") as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        try:
            return list(compile_source(files[MAIN], MAIN, path=Path(folder, MAIN)).diagnostics)
        except SourceError as error:
            return list(error.diagnostics)


def _written(p: Page) -> Iterator[str]:
    """The page as markdown, paragraph by paragraph."""
    yield f"# {p.code}: {p.title}"
    yield p.meaning
    yield f"## Why it matters\n\n{p.why}"
    if p.wrong:
        yield "## Wrong"
        yield from (_named(name, p.wrong) + f"```pzm\n{text}```" for name, text in p.wrong.items())
        shown = "\n\n".join(render(d, p.wrong[MAIN], MAIN) for d in what_it_prints(p.wrong))
        yield f"`pzc check {MAIN}` prints:\n\n```text\n{shown}\n```"
        yield "## Right"
        yield from (_named(name, p.right) + f"```pzm\n{text}```" for name, text in p.right.items())
    yield f"Related: {', '.join(p.related)}"


def _drawn(p: Page) -> Iterator[RenderableType]:
    """The page in colour."""
    yield Text.assemble((f"{p.severity}[{p.code}]", p.severity), (f": {p.title}", "bold"))
    yield _prose(p.meaning)
    yield _heading("Why it matters")
    yield _prose(p.why)
    if p.wrong:
        yield _heading("Wrong")
        yield from _files(p.wrong)
        yield _prose(f"`pzc check {MAIN}` prints:")
        for d in what_it_prints(p.wrong):
            yield _indented(drawn(d, p.wrong[MAIN], MAIN))
        yield _heading("Right")
        yield from _files(p.right)
    yield Text(f"\nRelated: {', '.join(p.related)}", style="dim")


def _files(files: dict[str, str]) -> Iterator[RenderableType]:
    for name, text in files.items():
        if len(files) > 1:
            yield _prose(f"`{name}`:")
        yield _indented(formula(text.rstrip("\n")))


def _named(name: str, files: dict[str, str]) -> str:
    return f"`{name}`:\n\n" if len(files) > 1 else ""


def _indented(text: Text) -> Text:
    return Text("\n").join([Text(), *(Text("    ") + line for line in text.split("\n"))])


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _prose(text: str) -> Padding:
    return Padding(Markdown(text), (1, 0, 0, 0))
