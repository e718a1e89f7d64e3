"""What a running search looks like: drawn from its state, at any width from 80 columns and in as many lines as there
are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from pzc.cli.console import change_text, formula
from pzc.compiler.metric import Metric
from pzc.grammar.counting import count
from pzc.runtime.scoring.masks import share_text
from pzc.search.candidate import ALIASES, MEASURED, Candidate
from pzc.search.settings import Settings
from pzc.search.state import Standing, State

_BARS = "▁▂▃▄▅▆▇█"

WIDE = 100
"""Columns from which there is room for more than what matters most."""

LINES = 3
"""How many lines of the table a formula may take."""

OTHER = 7
"""Lines that are neither rows of the table nor below it, and one for the cursor."""

FIRST = 3
"""How many of the best come before the Pareto front where lines are few."""

LEGEND = "metric (◆ on the Pareto front)"
STOPS = "ctrl-c stops after this candidate; --resume goes on"
STOPPING = "stopping after this candidate; ctrl-c once more stops at once"

Row = tuple[Candidate, Metric]


@dataclass(frozen=True)
class View:
    """A run at one moment, as rich draws it. `elapsed` are seconds of searching, `note` is the last line; with `fits`
    it keeps to the height of the terminal."""

    run: Standing
    settings: Settings
    folder: str
    elapsed: float
    note: str
    fits: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        bottom = _bottom(self.run, self.settings, self.note)
        lines = console.height - OTHER - len(console.render_lines(bottom, options)) if self.fits else math.inf
        yield _top(self.settings, self.folder, self.elapsed)
        yield _middle(self.run, self.settings, self.elapsed, width)
        if self.run.best or self.run.zoo:
            yield Text()
            yield _table(self.run, console, width, lines)
        yield Text()
        yield bottom


def _top(s: Settings, folder: str, elapsed: float) -> Table:
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    model = s.model.rstrip("/").rpartition("/")[2]
    target = s.pattern or share_text(s.sparsity).replace("%", " %")
    left = Text.assemble(("pzc search", "bold"), f" · {model} · {target} · seed {s.seed} · {folder}")
    rest = f" of {clock(s.limit)}, {clock(max(0.0, s.limit - elapsed))} left" if s.limit else ""
    line.add_row(left, f" {clock(elapsed)}{rest}")
    return line


def _middle(run: Standing, s: Settings, elapsed: float, width: int) -> Text:
    settled, measured = run.counts.total(), sum(run.counts[status] for status in MEASURED)
    rate = 60 * settled / elapsed if elapsed > 1 else 0.0
    now = f"generation {run.generation}" if run.generation >= 0 else "measuring the zoo"
    bound = f" of {s.evaluations:,}" if s.evaluations else ""
    line = Text(f"{now} · {measured:,}{bound} measured · {settled:,} settled, {rate:,.0f}/min")
    if run.best and run.zoo:
        versus = versus_zoo(run.best[0][0], run.zoo)
        room = width - line.cell_len - versus.cell_len - len("  best  ")
        if room >= 0:
            best = Text.assemble("best ", (sparkline(run.history, room), "cyan"), " ", versus)
            line.append(" " * (width - line.cell_len - best.cell_len))
            line.append_text(best)
    line.truncate(width, overflow="ellipsis")
    return line


def _table(run: Standing, console: Console, width: int, lines: float) -> Table:
    """The best candidates, the rest of the Pareto front, and the best of the zoo, as many as there are lines for."""
    wide = width >= WIDE
    front = {c for c, _ in run.front}
    rows = [*run.best, *(row for row in run.front if row not in run.best and row[0] != run.zoo)]
    heads = ["#", "fitness", "vs zoo", "size", *(["gen", "cost"] if wide else [])]
    cells = {c: _cells(place, c, metric, run, wide) for place, (c, metric) in enumerate(rows, 1)}
    last = _zoo(run.zoo, run.front, wide) if run.zoo else [""] * len(heads)
    widths = [max(map(len, column)) for column in zip(heads, last, *cells.values(), strict=True)]
    per = max((len(c.per) for c in [*cells, *([run.zoo] if run.zoo else [])]), default=3)
    room = max(20, width - sum(widths) - per - 2 * (len(heads) + 1))
    texts = {c: _wrapped(_formula(c, metric), console, room) for c, metric in rows}
    shown = _fitting(rows, run.best, {c: len(text.split("\n")) for c, text in texts.items()}, lines)

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head, size in zip(heads, widths, strict=True):
        left = head == "cost"
        table.add_column(head, justify="left" if left else "right", header_style="dim", no_wrap=True, width=size)
    table.add_column("metric" if not front else LEGEND, header_style="dim", width=room)
    table.add_column("per", header_style="dim", no_wrap=True, width=per)
    for c, _ in rows:
        if c in shown:
            place, fitness, *rest = cells[c]
            style = "dim" if c.published else ""
            mark = Text(place, style="bold cyan" if c in front else "")
            table.add_row(mark, fitness, versus_zoo(c, run.zoo), *rest[1:], texts[c], c.per, style=style)
    if run.zoo is not None:
        name = Text.assemble("best of the zoo: ", (run.zoo.operator, "bold"))
        table.add_row(*last, name, run.zoo.per, style="dim")
    return table


def _cells(place: int, c: Candidate, metric: Metric, run: Standing, wide: bool) -> list[str]:
    ranked = place <= len(run.best)
    more = [str(c.generation) if c.generation >= 0 else "", c.tier] if wide else []
    front = any(c is member for member, _ in run.front)
    name = (f"{place}" if ranked else "") + ("◆" if front else " ")
    return [name, fitness_of(c), versus_zoo(c, run.zoo).plain, str(metric.complexity), *more]


def _zoo(c: Candidate, front: Sequence[Row], wide: bool) -> list[str]:
    size = next((metric.complexity for member, metric in front if member == c), c.complexity)
    mark = "◆" if any(member == c for member, _ in front) else " "
    return [f"·{mark}", fitness_of(c), "", str(size), *(["", c.tier] if wide else [])]


def _fitting(rows: Sequence[Row], best: Sequence[Row], heights: dict[Candidate, int], lines: float) -> set[Candidate]:
    """The rows that there is room for: some of the best, then the front, then the rest of the best."""
    order = [*best[:FIRST], *(row for row in rows if row not in best), *best[FIRST:]]
    shown: set[Candidate] = set()
    for c, _ in order:
        if heights[c] <= lines:
            lines -= heights[c]
            shown.add(c)
    return shown


@lru_cache(maxsize=64)
def _coloured(text: str) -> Text:
    return formula(text)


def _formula(c: Candidate, metric: Metric) -> Text:
    text = _coloured(metric.formula)
    return Text.assemble((f"{c.operator}  ", "bold"), text) if c.published else text


def _wrapped(text: Text, console: Console, width: int) -> Text:
    """A formula over a few lines, cut where it needs more."""
    lines = text.wrap(console, width)
    if len(lines) > LINES:
        lines[LINES - 1].truncate(width - 2)
        lines[LINES - 1].append(" …")
    return Text("\n").join(lines[:LINES])


def _bottom(run: Standing, s: Settings, note: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    settled = run.counts.total()
    if settled:
        table.add_row("settled", _shares(run, settled))
    if any(run.counts[status] for status in ALIASES):
        alike = [(status.removeprefix("same "), run.counts[status]) for status in ALIASES if run.counts[status]]
        table.add_row("duplicates", "same " + " · ".join(f"{how} {n:,}" for how, n in alike))
    if run.refusals:
        table.add_row("refused", " · ".join(f"{why} {n:,}" for why, n in run.refusals.most_common(4)))
    if run.predictors:
        known = " · ".join(f"{name} " + f"{r:.2f}".replace("-", "−") for name, r in run.predictors.items())
        table.add_row("predictors", f"ρ with fitness: {known}")
    until = ends(s)
    if until:
        table.add_row("until", until)
    table.add_row("", Text(note, style="dim"))
    return table


def _shares(run: Standing, settled: int) -> str:
    shares = {
        "evaluated": run.counts["evaluated"],
        "placed": run.counts["placed"],
        "lost race": run.counts["lost race"],
        "predicted worse": run.counts["predicted worse"],
        "duplicates": sum(run.counts[status] for status in ALIASES),
        "refused": run.counts["refused"],
    }
    return " · ".join(f"{name} {n / settled:.0%}" for name, n in shares.items() if n)


def ends(s: Settings) -> str:
    """What ends the run beside its time."""
    found = [
        count(s.generations, "generation") if s.generations else "",
        f"{s.evaluations:,} measured" if s.evaluations else "",
        f"{count(s.patience, 'generation')} without a better one" if s.patience else "",
        f"a fitness of {s.reach:g}" if s.reach is not None else "",
    ]
    return ", or ".join(filter(None, found))


def ended(state: State, s: Settings, spent: float) -> str:
    """What a run has reached, in words, that ends it; empty while it may go on."""
    timed = f"{clock(spent)} of searching (--time {clock(s.limit)})" if s.limit and spent >= s.limit - 0.1 else ""
    return state.ended() or timed  # seconds are kept in tenths


def fitness_of(c: Candidate) -> str:
    """A fitness in as few digits as it needs, marked where it is an estimate."""
    mark = "≈" if c.expected else ""
    return mark + (f"{c.fitness:.2f}" if c.fitness < 1e6 else f"{c.fitness:.0e}")


def versus_zoo(c: Candidate, zoo: Candidate | None) -> Text:
    """How far a candidate is from the best of the zoo: a share, or a factor where it is far behind."""
    if zoo is None or not math.isfinite(c.fitness / zoo.fitness):
        return Text("")
    if c.fitness > 10 * zoo.fitness:
        return Text(f"×{c.fitness / zoo.fitness:.0f}" if c.fitness < 1e3 * zoo.fitness else "> ×1,000")
    change = c.fitness / zoo.fitness - 1
    return Text(change_text(change), style="good" if change < 0 else "")


SPARKLINE = 24
"""Bars at most."""


def sparkline(values: Sequence[float], width: int = SPARKLINE) -> str:
    """A series as bars, the first and the last value among them, on a logarithmic scale."""
    width = min(width, SPARKLINE, len(values))
    if width < 1:
        return ""
    step = (len(values) - 1) / max(1, width - 1)
    chosen = [values[len(values) - 1 - round(step * i)] for i in range(width)][::-1]
    logs = [math.log(min(v, 1e300)) for v in chosen]
    low, high = min(logs), max(logs)
    span = high - low or 1.0
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1))] for v in logs)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
