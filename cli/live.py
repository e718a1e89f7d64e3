"""What a running search looks like: drawn from its state, at any width from 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pzc.cli.console import formula
from pzc.search.candidate import Candidate
from pzc.search.evolve import State
from pzc.search.hall import readable

SHOWN = 8
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Heading:
    """What the top line says of a run."""

    model: str
    target: str
    seed: int
    folder: str


@lru_cache(maxsize=4096)
def _formula(text: str, per: str, number: int) -> str:
    return readable(Candidate(number, 0, 0, 0, text, per, "", "evaluated", "", 0), "m").formula


def draw(state: State, heading: Heading, elapsed: float, limit: float) -> RenderableType:
    """The whole view."""
    found, zoo = state.found, state.zoo
    best_zoo = zoo[0] if zoo else None
    return Group(
        _top(heading, elapsed, limit),
        _middle(state, found, best_zoo, elapsed),
        Text(),
        _table(found[:SHOWN], best_zoo),
        Text(),
        *_bottom(state),
    )


def _top(h: Heading, elapsed: float, limit: float) -> Table:
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    left = Text.assemble(("pzc search", "bold"), f" · {h.model} · {h.target} · seed {h.seed} · {h.folder}")
    line.add_row(left, f" {clock(elapsed)} / {clock(limit)}")
    return line


def _middle(state: State, found: list[Candidate], zoo: Candidate | None, elapsed: float) -> Table:
    settled = sum(state.counts.values())
    measured = state.counts["evaluated"] + state.counts["lost race"]
    rate = 60 * measured / elapsed if elapsed > 1 else 0.0
    generation = max((c.generation for c in state.candidates), default=-1)
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    now = f"generation {generation}" if generation >= 0 else "measuring the zoo"
    left = f"{now} · {measured:,} measured · {settled:,} settled · {rate:.0f}/min"
    right = Text()
    if found and zoo:
        right = Text.assemble("best ", (sparkline(_history(state)), "cyan"), " ", _versus(found[0], zoo))
    line.add_row(left, right)
    return line


def _table(shown: list[Candidate], zoo: Candidate | None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for heading in ("#", "fitness", "vs zoo", "size", "gen"):
        table.add_column(heading, justify="right", header_style="dim", no_wrap=True)
    table.add_column("metric", header_style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("per", header_style="dim", no_wrap=True)
    for place, c in enumerate(shown, 1):
        text = formula(_formula(c.formula, c.per, c.number))
        table.add_row(
            str(place), f"{c.fitness:.2f}", _versus(c, zoo), str(c.complexity), str(c.generation), text, c.per
        )
    if zoo is not None:
        name = Text.assemble("best of the zoo: ", (zoo.operator, "bold"))
        table.add_row("·", f"{zoo.fitness:.2f}", "", str(zoo.complexity), "", name, zoo.per, style="dim")
    return table


def _bottom(state: State) -> list[Text]:
    settled = sum(state.counts.values())
    shares = [f"{name} {count / settled:.0%}" for name, count in state.counts.most_common()] if settled else ["–"]
    lines = [Text("settled  " + " · ".join(shares))]
    if state.refusals:
        lines.append(Text("refused  " + " · ".join(f"{why} {n}" for why, n in state.refusals.most_common(3))))
    lines.append(Text("ctrl-c stops after this candidate; --resume goes on", style="dim"))
    return lines


def _versus(c: Candidate, zoo: Candidate | None) -> Text:
    if zoo is None:
        return Text("")
    change = c.fitness / zoo.fitness - 1
    return Text(f"{change:+.1%}".replace("-", "−"), style="good" if change < 0 else "")


def _history(state: State) -> list[float]:
    """The best fitness after each generation."""
    best: dict[int, float] = {}
    low = float("inf")
    for c in state.candidates:
        if c.status == "evaluated" and c.generation >= 0:
            low = min(low, c.fitness)
        if c.generation >= 0 and low < float("inf"):
            best[c.generation] = low
    return list(best.values())


def sparkline(values: list[float], width: int = 16) -> str:
    """The last values as bars."""
    values = values[-width:]
    if not values:
        return ""
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1))] for v in values)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours when there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
