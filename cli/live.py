"""What a running search looks like: drawn from its state, at any width from 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pzc.cli.console import formula
from pzc.search.candidate import Candidate
from pzc.search.state import Standing

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Heading:
    """What the top line says of a run."""

    model: str
    target: str
    seed: int
    folder: str


def draw(run: Standing, heading: Heading, elapsed: float, limit: float, workers: int | None = None) -> RenderableType:
    """The whole view; the number of workers is for a run that is only looked at."""
    return Group(
        _top(heading, elapsed, limit),
        _middle(run, elapsed),
        Text(),
        _table(run),
        Text(),
        *_bottom(run, workers),
    )


def _top(h: Heading, elapsed: float, limit: float) -> Table:
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    left = Text.assemble(("pzc search", "bold"), f" · {h.model} · {h.target} · seed {h.seed} · {h.folder}")
    rest = f" of {clock(limit)}, {clock(max(0.0, limit - elapsed))} left" if math.isfinite(limit) else ""
    line.add_row(left, f" {clock(elapsed)}{rest}")
    return line


def _middle(run: Standing, elapsed: float) -> Table:
    settled = run.counts.total()
    measured = run.counts["evaluated"] + run.counts["lost race"]
    rate = 60 * measured / elapsed if elapsed > 1 else 0.0
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    now = f"generation {run.generation}" if run.generation >= 0 else "measuring the zoo"
    left = f"{now} · {measured:,} measured · {settled:,} settled · {rate:.0f}/min"
    right = Text()
    if run.best and run.zoo:
        right = Text.assemble("best ", (sparkline(run.history), "cyan"), " ", _versus(run.best[0][0], run.zoo))
    line.add_row(left, right)
    return line


def _table(run: Standing) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for heading in ("#", "fitness", "vs zoo", "size", "gen"):
        table.add_column(heading, justify="right", header_style="dim", no_wrap=True)
    table.add_column("metric", header_style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("per", header_style="dim", no_wrap=True)
    for place, (c, metric) in enumerate(run.best, 1):
        size = str(metric.complexity)
        text = formula(metric.formula)
        table.add_row(str(place), _fitness(c), _versus(c, run.zoo), size, str(c.generation), text, c.per)
    if run.zoo is not None:
        name = Text.assemble("best of the zoo: ", (run.zoo.operator, "bold"))
        table.add_row("·", _fitness(run.zoo), "", str(run.zoo.complexity), "", name, run.zoo.per, style="dim")
    return table


def _bottom(run: Standing, workers: int | None) -> list[Text]:
    settled = run.counts.total()
    shares = [f"{name} {count / settled:.0%}" for name, count in run.counts.most_common()] or ["–"]
    lines = ["settled  " + " · ".join(shares)]
    if run.predictors:
        lines.append("predictors  " + " · ".join(f"{name} ρ {r:.2f}" for name, r in run.predictors.items()))
    if run.refusals:
        lines.append("refused  " + " · ".join(f"{why} {n:,}" for why, n in run.refusals.most_common(3)))
    at_work = f"{workers} at work" if workers else "nobody is at work on it"
    lines.append("ctrl-c stops after this candidate; --resume goes on" if workers is None else at_work)
    texts = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
    texts[-1].stylize("dim")
    return texts


def _fitness(c: Candidate) -> str:
    return f"{c.fitness:.2f}" if c.fitness < 1e6 else f"{c.fitness:.0e}"


def _versus(c: Candidate, zoo: Candidate | None) -> Text:
    if zoo is None or not math.isfinite(c.fitness / zoo.fitness):
        return Text("")
    if c.fitness > 10 * zoo.fitness:
        return Text(f"×{c.fitness / zoo.fitness:.2g}" if c.fitness < 1e3 * zoo.fitness else "> ×1,000")
    change = c.fitness / zoo.fitness - 1
    return Text(f"{change:+.1%}".replace("-", "−"), style="good" if change < 0 else "")


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """The last values as bars."""
    values = values[-width:]
    if not values:
        return ""
    logs = [math.log(min(v, 1e300)) for v in values]
    low, high = min(logs), max(logs)
    span = high - low or 1.0
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1))] for v in logs)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
