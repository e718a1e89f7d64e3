"""What docs/architecture.md says of imports: only of floors below; of rooms, in the runtime only those below, and in
the command line no other."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

FLOORS = ("cli", "lsp", "search", "runtime", "compiler", "grammar")
"""From the highest down."""

UPWARDS = {("compiler/metric.py", "runtime")}
"""The import that the page excepts: scores of torch tensors."""


def rooms(floor: str) -> list[str]:
    """The rooms of a floor in the order of the page."""
    return re.findall(rf"^{floor}/(\w+)/ ", TEXT, re.MULTILINE)


def imports(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The modules of the project that the files of a folder import, each as its parts after `pzc`."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pzc."):
                module = (node.module or "").split(".")[1:]
                for name in node.names:
                    inner = [*module, name.name]
                    yield file, inner if (ROOT.joinpath(*inner)).is_dir() else module


def test_the_page_names_the_floors() -> None:
    lines = re.findall(r"^(\w+)/  +\w", TEXT, re.MULTILINE)
    assert tuple(name for name in lines if name != "metrics") == FLOORS


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_floors_below_it(floor: str) -> None:
    above = FLOORS[: FLOORS.index(floor)]
    found = {(str(file.relative_to(ROOT)), to[0]) for file, to in imports(ROOT / floor) if to[0] in above}
    assert found <= UPWARDS


@pytest.mark.parametrize("floor", ["cli", "runtime", "compiler"])
def test_the_page_names_every_room(floor: str) -> None:
    there = {p.parent.name for p in (ROOT / floor).glob("*/__init__.py")}
    assert set(rooms(floor)) == there


@pytest.mark.parametrize("room", rooms("runtime"))
def test_a_room_of_the_runtime_imports_only_rooms_below_it(room: str) -> None:
    order = rooms("runtime")
    above = order[: order.index(room)]
    found = [(file.name, to) for file, to in imports(ROOT / "runtime" / room) if to[:1] == ["runtime"]]
    assert [(name, to) for name, to in found if len(to) > 1 and to[1] in above] == []


@pytest.mark.parametrize("room", rooms("cli"))
def test_a_room_of_the_command_line_imports_no_other(room: str) -> None:
    found = {to[1] for _, to in imports(ROOT / "cli" / room) if to[0] == "cli" and len(to) > 1}
    assert found & set(rooms("cli")) == {room}


@pytest.mark.parametrize("floor", ["cli", "runtime"])
def test_modules_of_the_floor_itself_import_no_room(floor: str) -> None:
    own = {p.stem for p in (ROOT / floor).glob("*.py")}
    found = [to for file, to in imports(ROOT / floor) if file.parent.name == floor and to[0] == floor]
    assert found
    assert {to[1] for to in found if len(to) > 1} <= own


NAMED = re.findall(rf"`((?:{'|'.join(FLOORS)})(?:\.\w+)+)`", TEXT)
"""What the page names by its floor: modules, and functions and classes of them."""

BESIDE = [name for row in re.findall(r"^\| .* \| (.*) \|$", TEXT, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
"""Modules that the table of the way names beside one that it names in full."""


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_is_there(name: str) -> None:
    assert pkgutil.resolve_name(f"pzc.{name}")


def test_modules_that_the_table_names_in_short_are_there() -> None:
    assert BESIDE
    assert set(BESIDE) <= {file.stem for floor in FLOORS for file in (ROOT / floor).rglob("*.py")}
