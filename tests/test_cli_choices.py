"""Choices that the command line offers without importing what they are for: they are those of the floors below."""

from __future__ import annotations

from collections.abc import Collection

import click
import pytest

from pzc.cli.main import COMMANDS
from pzc.cli.main import pzc as cli
from pzc.runtime.data.protocols import PROTOCOLS
from pzc.runtime.models.loading import DTYPES
from pzc.runtime.pruning.request import UPDATES
from pzc.search.algorithms import ALGORITHMS
from pzc.search.objective import OBJECTIVES


def offered(command: str, option: str) -> set[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    (kind,) = [p.type for p in found.params if option in p.opts]
    assert isinstance(kind, click.Choice)
    return set(kind.choices)


@pytest.mark.parametrize(
    ("command", "option", "table"),
    [
        *((command, "--dtype", DTYPES) for command in ("prune", "apply", "eval", "compare", "search", "plan")),
        ("search", "--fitness-dtype", DTYPES),
        ("search", "--algorithm", ALGORITHMS),
        ("search", "--objective", OBJECTIVES),
        ("prune", "--update", UPDATES),
        ("plan", "--update", UPDATES),
        ("eval", "--protocol", PROTOCOLS),
    ],
)
def test_a_choice_is_what_there_is(command: str, option: str, table: Collection[str]) -> None:
    assert command in COMMANDS
    assert offered(command, option) == set(table)
