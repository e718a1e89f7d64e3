"""Pieces of the page: text is escaped here, and only what these functions return is put into the page as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape

from pzc.search.report.figure import Figure
from pzc.search.report.themes import svg

Colour = Callable[[str], Iterable[tuple[str, str]]]
"""The pieces of `.pzm` text with the name of the style of each, such as `pzm.leaf`, empty for none."""


def uncoloured(text: str) -> Iterable[tuple[str, str]]:
    """`.pzm` text in one piece."""
    return [(text, "")]


def element(tag: str, *inner: str, **attributes: str) -> str:
    """An element; `inner` is put in as it is. `class_` and `for_` are written without their underscore."""
    written = "".join(f' {k.rstrip("_").replace("_", "-")}="{escape(v)}"' for k, v in attributes.items())
    return f"<{tag}{written}>{''.join(inner)}</{tag}>"


def paragraph(text: str, **attributes: str) -> str:
    """A paragraph of plain text, in which what stands between backticks is code."""
    pieces = (
        element("code", escape(piece)) if i % 2 else escape(piece)
        for i, piece in enumerate(re.split("`([^`]+)`", text))
    )
    return element("p", *pieces, **attributes)


def formula(text: str, colour: Colour) -> str:
    """`.pzm` text with its colours."""
    return "".join(
        element("span", escape(piece), class_=style.replace(".", "-")) if style else escape(piece)
        for piece, style in colour(text)
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table; cells are put in as they are, and the columns of `numbers` are aligned to the right."""
    right = set(numbers)

    def line(tag: str, cells: Sequence[str]) -> str:
        return element(
            "tr", *(element(tag, c, class_="number") if i in right else element(tag, c) for i, c in enumerate(cells))
        )

    body = "".join(line("td", row) for row in rows)
    head = element("thead", line("th", [escape(h) for h in headings]))
    return element("div", element("table", head, element("tbody", body)), class_="scroll", tabindex="0")


def folded(summary: str, inner: str) -> str:
    """What is shown when it is asked for."""
    return element("details", element("summary", escape(summary)), inner)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A few numbers, large."""
    return element(
        "dl", *(element("div", element("dt", escape(k)), element("dd", escape(v))) for k, v in pairs), class_="facts"
    )


def figure(f: Figure) -> str:
    """A figure with its sentence, which is also what a reader who cannot see it is told."""
    drawing = element("div", svg(f.draw, f.size, f.name), role="img", aria_label=f"{f.title}. {f.says}")
    caption = element("figcaption", element("strong", escape(f.title)), escape(f.says))
    return element("figure", drawing, caption, id=f"figure-{f.name}")


def figures(found: Iterable[Figure]) -> str:
    """Figures beside each other where there is room."""
    return element("div", *map(figure, found), class_="figures")


def page(title: str, style: str, body: str) -> str:
    """A whole document that asks for nothing else."""
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'
