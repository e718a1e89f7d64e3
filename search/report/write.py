"""The report of a run: one page, and its figures as PNG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from pzc.grammar.counting import count
from pzc.runtime.evaluation.plots import check_matplotlib
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.replacing import replace_file
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.html import Colour
from pzc.search.report.measure import Measured
from pzc.search.report.numbers import duration
from pzc.search.report.sections.contents import contents
from pzc.search.report.sections.section import Section
from pzc.search.report.themes import DARK, LIGHT, png

PAGE = "report.html"
FIGURES = "figures"


@dataclass(frozen=True)
class Written:
    """Where a report is: the page, and the figures by name, each for light and for dark pages."""

    page: Path
    figures: dict[str, tuple[Path, Path]]


def write(
    run: Run,
    folder: Path,
    *,
    others: Sequence[Run] = (),
    measured: Measured | None = None,
    colour: Colour = html.uncoloured,
    progress: Progress = silent,
) -> Written:
    """Write the page and its figures into a folder, each file whole or not at all, and nothing else there is touched.

    `others` are runs to show beside this one, `measured` what needed the model, `colour` how `.pzm` text is coloured.
    Raises PruningError where matplotlib is missing.
    """
    check_matplotlib()
    found = contents(run, others, measured, colour)
    text = document(run, found)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    drawn = [figure for section in found for figure in section.figures]
    files = {}
    for i, figure in enumerate(drawn):
        light, dark = (folder / FIGURES / f"{figure.name}{end}.png" for end in ("", "-dark"))
        replace_file(light, png(figure.draw, figure.size, LIGHT))
        replace_file(dark, png(figure.draw, figure.size, DARK))
        files[figure.name] = (light, dark)
        progress("figures", i + 1, len(drawn))
    return Written(replace_file(folder / PAGE, text), files)


def document(run: Run, found: Sequence[Section]) -> str:
    """The whole page."""
    seconds = sum(c.seconds for c in run.bred)
    s = run.settings
    about = (
        f"{Path(str(s['model'])).name} at {run.target}, seed {s['seed']}, space {s['space']}: "
        f"{count(len(run.bred), 'candidate')} settled in {duration(seconds)} of work, with numbers after those of the "
        f"{count(len(run.candidates) - len(run.bred), 'published metric')}."
    )
    links = "".join(html.element("a", escape(section.heading), href=f"#{section.anchor}") for section in found)
    parts = [
        html.element("section", html.element("h2", escape(section.heading)), section.body, id=section.anchor)
        for section in found
    ]
    title = f"Search {run.name}"
    header = html.element(
        "header",
        html.element("h1", escape(title)),
        html.paragraph(about, class_="quiet"),
        html.element("nav", links, aria_label="Sections"),
    )
    style = resources.files("pzc.search.report").joinpath("page.css").read_text(encoding="utf-8")
    return html.page(f"{title} · pzc", style, header + html.element("main", *parts))
