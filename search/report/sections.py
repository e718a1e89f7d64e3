"""The sections of the page. Each takes what it shows and returns its heading, its anchor and its HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path

from pzc.grammar.counting import count
from pzc.runtime.evaluation import uncertainty
from pzc.search.commands import compare_command, prune_command
from pzc.search.hall import HALL
from pzc.search.predictors import LEAST, Pairs, told
from pzc.search.reading import Run, differing
from pzc.search.report import elsewhere, figures, html, model_figures
from pzc.search.report.descent import FRESH, main_line, variations
from pzc.search.report.effects import effects, families, frequencies, the_best
from pzc.search.report.evolution import evolution
from pzc.search.report.figure import Figure
from pzc.search.report.figures import NODES, TIER_NAMES
from pzc.search.report.html import Colour
from pzc.search.report.measure import Measured, best_other, published_metric
from pzc.search.report.numbers import change, duration, joined, percent, perplexity
from pzc.search.settings import Settings

FRONT_ROWS = 30

TYPED = {"limit": "--time", "seeds": "--seed-metrics"}
"""Settings that the options of `pzc search` call by other names."""

HOW_EFFECTS = (
    "Parts are those of the form a metric ranks by, so what changes no mask counts for nothing. The effect is that of "
    "a linear model of the logarithm of the {measure} against that of the best published metric, on all windows a "
    "candidate was measured on, with every part in it. It says what goes with good metrics in this run, on this model; "
    "it does not prove a cause. Intervals come from drawing whole families of descent."
)


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, heading, HTML, and the figures in it."""

    anchor: str
    heading: str
    body: str
    figures: tuple[Figure, ...] = ()


def sections(run: Run, others: Sequence[Run], measured: Measured | None, colour: Colour) -> list[Section]:
    """All sections, in the order of the page."""
    return [
        winner(run, measured, colour),
        progress(run, others),
        at_work(run, measured),
        transferred(run),
        trade_off(run, colour),
        descent(run, colour),
        parts(run),
        operators(run),
        predictors(run),
        settings(run),
    ]


def _with_figures(anchor: str, heading: str, found: Sequence[Figure], before: str = "", after: str = "") -> Section:
    return Section(anchor, heading, before + html.figures(found) + after, tuple(found))


def winner(run: Run, measured: Measured | None, colour: Colour) -> Section:
    """The winner, how good it is and how to use it."""
    file = run.folder / HALL / "01.pzm"
    best, zoo = run.winner, run.zoo[0] if run.zoo else None
    losses = run.outcome.losses if run.outcome and run.outcome.losses else best.losses  # as it is written, if known
    numbers = [(f"{run.measure}, search windows", perplexity(uncertainty.perplexity(losses)))]
    if zoo:
        numbers += [
            (f"best of the zoo: {zoo.operator}", perplexity(zoo.fitness)),
            ("change on search windows", change(uncertainty.change(losses, zoo.losses[: len(losses)]))),
        ]
    if run.outcome:
        numbers.insert(1, (f"{run.measure}, with further windows", perplexity(run.outcome.together)))
    numbers += _held_out(run, measured)
    source = (
        file.read_text(encoding="utf-8")
        if file.is_file()
        else f"pzm 1\n\nmetric found = {figures.of_candidate(best)}\n"
    )
    body = html.element("pre", html.formula(source.strip(), colour), class_="formula")
    body += html.facts(numbers)
    note = "Errors are one standard error over paired windows. The search has chosen the winner by its own windows and "
    note += "further ones of the same text, so the change there flatters it; held-out text has chosen only the "
    note += "published metric."
    body += html.paragraph(f"{_chosen(run)} {note}".strip(), class_="note")
    body += html.element("h3", "How to use it") + html.element("pre", escape("\n".join(commands(run, file))))
    return Section("winner", "The winner", body)


def _held_out(run: Run, measured: Measured | None) -> list[tuple[str, str]]:
    """Perplexities on held-out text: as the page has measured them, else as the final of the run has."""
    heading = "perplexity, held-out text"
    if measured:
        at = measured.by_target[run.target]
        held, name = at[measured.metrics[0]], best_other(measured, at)
        found = [(heading, perplexity(held.perplexity))]
        if name:
            found.append((f"{name}, held-out text", perplexity(at[name].perplexity)))
            if held.losses:
                against = uncertainty.change(held.losses, at[name].losses)
                found.append((f"change on held-out text against {name}", change(against)))
        return [*found, ("dense model, held-out text", perplexity(measured.dense.perplexity))]
    if run.outcome:
        return [
            (heading, perplexity(run.outcome.held_out)),
            (f"{run.outcome.published}, held-out text", perplexity(run.outcome.published_held_out)),
            ("dense model, held-out text", perplexity(run.outcome.dense)),
        ]
    return []


def _chosen(run: Run) -> str:
    """Why the winner is the winner, where that is not its fitness alone."""
    best, says = run.found[0], ""
    if run.outcome and run.outcome.windows > len(run.winner.course):
        says = (
            "Of the best, which contended on further windows of the search's text, the winner has the lowest "
            f"{run.measure} over all {run.outcome.windows} windows together, {perplexity(run.outcome.together)}."
        )
    elif best is not run.winner:
        says = "The winner has the lowest loss over the search's windows and further ones together."
    if best is not run.winner:
        says += f" On the search's windows alone candidate {best.number} has {perplexity(best.fitness)}."
    return says


def commands(run: Run, file: Path) -> list[str]:
    """What to type to prune with the winner, and to see it beside the zoo."""
    published = run.outcome.published if run.outcome else run.zoo[0].operator if run.zoo else None
    return [
        prune_command(run.settings, file),
        compare_command(run.settings, file, published, published_metric(run, published).per if published else None),
        f"pzc search transfer {run.place.typed} --model smollm2 --pattern 2:4",
    ]


def progress(run: Run, others: Sequence[Run]) -> Section:
    """How fitness fell, beside other runs."""
    found = [figures.by_time(run, others), figures.by_evaluations(run, others), figures.outcome(run)]
    warned = "".join(html.paragraph(_searches_elsewhere(run, other)) for other in others if differing(run, other))
    hint = "" if others else html.paragraph(
        "Give other runs on the same model, text and windows, such as one of `--algorithm random`, with `--against` to "
        "see them in the same figures.", class_="note",
    )  # fmt: skip
    return _with_figures("evolution", "How it got there", found, before=warned, after=hint)


def _searches_elsewhere(run: Run, other: Run) -> str:
    """What another run does not share with this one, beside its algorithm."""
    ways = [
        f"`{_typed(key)}` ({_written(other.settings.get(key))}, here {_written(run.settings.get(key))})"
        for key in differing(run, other)
    ]
    return f"{other.name} differs in {joined(ways)}: what sets the curves apart is not the algorithm alone."


def trade_off(run: Run, colour: Colour) -> Section:
    """The Pareto front."""
    front = run.front
    rows = [
        [
            html.element("code", html.formula(f"{metric.formula}  per {c.per}", colour)),
            perplexity(c.fitness),
            str(metric.complexity),
            TIER_NAMES[c.tier],
            (f"the zoo's {c.operator}" if c.published else f"candidate {c.number}")
            + (", the winner" if c.number == run.winner.number else ""),
        ]
        for c, metric in front[:FRONT_ROWS]
    ]
    listing = html.table(["metric", run.measure, "nodes", "reads", "from"], rows, numbers=(1, 2))
    more = f" The first {FRONT_ROWS} of them are listed." if len(front) > FRONT_ROWS else ""
    return _with_figures(
        "pareto",
        "Fitness, complexity and cost",
        [figures.fronts(run)],
        after=html.folded(
            f"{count(len(front), 'metric')} of the front", listing + (html.paragraph(more) if more else "")
        ),
    )


def descent(run: Run, colour: Colour) -> Section:
    """The lineage of the winner."""
    line = main_line(run)
    rows = []
    for before, c in zip([None, *line], line, strict=False):
        moved = percent(c.fitness / before.fitness - 1, signed=True) if before and math.isfinite(before.fitness) else ""
        way = f"{c.operator}, published" if c.published else c.operator
        also = ", ".join(f"with {n}" for n in c.parents[1:])
        rows.append(
            [
                str(c.number),
                escape(f"{way} {also}".strip()),
                perplexity(c.fitness),
                moved,
                html.element("code", html.formula(figures.of_candidate(c), colour)),
            ]
        )
    headings = ["candidate", "made by", run.measure, "change", "as it was bred"]
    return _with_figures(
        "lineage", "Where the winner comes from", [figures.lineage(run)],
        after=html.table(headings, rows, numbers=(0, 2, 3)),
    )  # fmt: skip


def parts(run: Run) -> Section:
    """Operators, leaves and groups against fitness."""
    found = [figures.frequency(frequencies(run), len(the_best(run)), len(run.measured))]
    effect_table = effects(run)
    after = ""
    if effect_table:
        found.append(figures.effect(effect_table, families(run), run.measure))
        rows = [
            [
                escape(e.feature.name),
                e.feature.kind,
                percent(e.change, signed=True),
                f"{percent(e.low, signed=True)} to {percent(e.high, signed=True)}",
                f"{e.candidates:,}",
                f"{e.families:,}",
                f"{e.gained:,}" if e.gained else "–",
                percent(e.gain, signed=True),
            ]
            for e in effect_table
        ]
        headings = ["part", "kind", "effect", "95 % interval", "candidates", "families", "gained by", "median change"]
        after = html.folded(
            f"All {len(effect_table)} parts with their numbers",
            html.table(headings, rows, numbers=(2, 3, 4, 5, 6, 7))
            + html.paragraph(
                "Gained by: offspring of one parent that has the part when the parent has not, and the median change "
                f"of their {run.measure} from that of the parent."
            ),
        )
    note = (
        HOW_EFFECTS.format(measure=run.measure)
        if effect_table
        else "Too few candidates were measured for effects; a longer run will show them."
    )
    return _with_figures("parts", "What matters", found, after=html.paragraph(note, class_="note") + after)


def operators(run: Run) -> Section:
    """The variation operators."""
    found = variations(run)
    rows = [
        [
            escape(v.name),
            f"{v.proposed:,}",
            f"{v.duplicates:,}",
            f"{v.refused:,}",
            f"{v.lost:,}",
            f"{v.ranked:,}",
            "–" if v.name in FRESH else f"{v.better:,} ({percent(v.rate)})",
            f"{v.records:,}",
            percent(math.expm1(v.median), signed=True) if math.isfinite(v.median) else "–",
        ]
        for v in found
    ]
    headings = [
        "variation",
        "proposed",
        "repeats",
        "refused",
        "lost",
        "ranked",
        "beat parent",
        "records",
        "median change",
    ]
    listing = html.table(headings, rows, numbers=range(1, 9)) + html.paragraph(
        "Ranked are those with a fitness, measured in full or estimated once it was clear where they come in; the "
        "median change from the first parent is theirs. Drafts that screening did not choose are not counted, and "
        "what it gained by tuning numbers counts for the variation."
    )
    return _with_figures(
        "variations", "How candidates are made", [figures.variation(found)], after=html.folded("In numbers", listing)
    )


def predictors(run: Run) -> Section:
    """Predictors against fitness."""
    found = [figures.predictor(name, pairs, run.measure) for name, pairs in predictions(run).items()]
    note = (
        "Predictors are what is said of a candidate before the pruned model is run. Two read the statistics alone: the "
        "share of the second-order loss Σ W²G² and of the layers' output Σ W²X² that its masks remove. The surrogate "
        "expects a rank from the masks of those measured before, as a normal score: 0 is the middle, the lower the "
        "better. The number of nodes is shown beside them, as it costs nothing to know. Candidates that lost their "
        "race have no fitness, so ρ understates what predictors tell."
    )
    if not found:
        note += f" Fewer than {LEAST} candidates have a fitness, too few to compare them with it."
    return _with_figures("predictors", "Predictors", found, before=html.paragraph(note, class_="note"))


def predictions(run: Run) -> dict[str, Pairs]:
    """Of each predictor, what it said and the fitness of every candidate that has one, if they are enough to tell; the
    number of nodes comes along."""
    nodes = [(float(c.complexity), c.fitness) for c in run.found]
    return {**told(run.found), **({NODES: nodes} if len(nodes) >= LEAST else {})}


def at_work(run: Run, measured: Measured | None) -> Section:
    """What the model shows."""
    if measured is None:
        none = "Left out with `--no-model`: masks, perplexity against sparsity and calibration, other patterns."
        return Section("model", "The winner at work", html.paragraph(none))
    where = html.paragraph(f"Held-out perplexity on {measured.text}, one-shot, no weight updated.", class_="note")
    return _with_figures("model", "The winner at work", model_figures.drawn(measured, run.target), before=where)


def transferred(run: Run) -> Section:
    """What `pzc search transfer` has measured."""
    heading, rows = "The winner elsewhere", elsewhere.rows_of(run)
    if not rows:
        how = f"pzc search transfer {run.place.typed} --model …"
        hint = f"`{how}` measures the hall of fame on other models, texts and targets; the next report shows it here."
        return Section("transfer", heading, html.paragraph(hint, class_="note"))
    after = html.folded("In numbers", elsewhere.table(rows))
    return _with_figures("transfer", heading, [elsewhere.figure(rows)], after=after)


def settings(run: Run) -> Section:
    """What the run was started with."""
    last = evolution(run)[-1]
    settled, work = count(last.settled, "candidate"), duration(last.seconds)
    done = f"{settled} in {work} of work, {last.evaluations:,} of them measured."
    text = f"{done} Fitness is the {run.measure} of the pruned model on the search's windows; lower is better."
    kept = {**run.settings, "limit": f"{limit:g}s"} if (limit := run.settings.get("limit")) else run.settings
    rows = sorted([escape(_typed(k)), html.element("code", escape(_written(v)))] for k, v in kept.items())
    body = html.paragraph(text) + html.folded("Settings of the run", html.table(["setting", "value"], rows))
    return Section("settings", "About this run", body)


def _typed(key: str) -> str:
    """A setting as the option that it is given by; what is no option, such as a hash, in words."""
    if key in {f.name for f in fields(Settings)}:
        return TYPED.get(key, f"--{key.replace('_', '-')}")
    return f"SHA-256 of the {key.removesuffix('_sha256').replace('_', ' ')}" if key.endswith("_sha256") else key


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
