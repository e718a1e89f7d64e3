"""What each code means: the pages of `grammar/errors/`, one markdown file a code.

A page begins with the meaning; its sections are *Why it matters*, *Wrong*, *Right* and *Related*. An example is a
block of `.pzm`; blocks after the first are the files that it uses, each after a line with its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pzc.grammar.diagnostics import CODES, Severity

MAIN = "m.pzm"
"""The name of the first file of an example."""

_SECTION = re.compile(r"^## (Why it matters|Wrong|Right|Related)\n", re.MULTILINE)  # a doc comment is no heading
_BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`:\n\n)?^```pzm\n(?P<text>.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One code explained. `wrong` and `right` are files by name, empty where a page has no example."""

    code: str
    severity: Severity
    title: str
    meaning: str
    why: str
    wrong: dict[str, str]
    right: dict[str, str]
    related: tuple[str, ...]
    text: str


@cache
def page(code: str) -> Page:
    """The page of a code in CODES."""
    text = resources.files("pzc.grammar").joinpath("errors", f"{code}.md").read_text(encoding="utf-8")
    meaning, *sections = _SECTION.split(text)
    by_name = dict(zip(sections[::2], sections[1::2], strict=True))
    severity, title = CODES[code]
    return Page(
        code,
        severity,
        title,
        meaning.strip(),
        by_name["Why it matters"].strip(),
        _files(by_name.get("Wrong", "")),
        _files(by_name.get("Right", "")),
        tuple(by_name["Related"].strip().split(", ")),
        text,
    )


def _files(section: str) -> dict[str, str]:
    return {found["name"] or MAIN: found["text"] for found in _BLOCK.finditer(section)}
