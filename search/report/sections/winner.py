"""The winner, how good it is, and how to use it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pzc.runtime.evaluation import uncertainty
from pzc.search.commands import compare_command, prune_command
from pzc.search.hall import HALL
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.html import Colour
from pzc.search.report.measure import Measured, best_other, published_metric
from pzc.search.report.numbers import change, perplexity
from pzc.search.report.sections.section import Section, of_candidate


def section(run: Run, measured: Measured | None, colour: Colour) -> Section:
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
    source = file.read_text(encoding="utf-8") if file.is_file() else f"pzm 1\n\nmetric found = {of_candidate(best)}\n"
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
