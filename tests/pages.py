"""Reading a page of HTML as a browser does: elements, what it loads, where its links lead."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

LOADING = ("src", "srcset", "poster", "data", "action", "background", "manifest", "ping", "formaction")
"""Attributes that make a browser fetch something; `href` does so on some elements."""

VOID = {"meta", "link", "br", "img", "hr", "input", "source", "wbr", "col"}


class Page(HTMLParser):
    """What a page says: its elements in order, text by element, and how well it is nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    @property
    def anchors(self) -> list[str]:
        """What links and references inside of the page lead to."""
        links = [a["href"][1:] for _, a in self.elements if a.get("href", "").startswith("#")]
        return links + re.findall(r"url\(['\"]?#([^)'\"]+)", self.source)

    @property
    def loaded(self) -> list[str]:
        """Everything that the page would fetch, from its own data alone left out."""
        found = [v for _, a in self.elements for k, v in a.items() if k in LOADING]
        found += [a["href"] for _, a in self.elements if "href" in a and not a["href"].startswith("#")]
        found += re.findall(r"url\(['\"]?([^#)'\"][^)]*)", self.source) + re.findall(r"@import[^;]*", self.style)
        found += [tag for tag, _ in self.elements if tag in ("script", "iframe", "object", "embed", "link", "base")]
        return [v for v in found if not v.startswith("data:")]
