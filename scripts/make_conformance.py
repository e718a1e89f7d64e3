"""Write the conformance suite: `python scripts/make_conformance.py [FOLDER]`, into conformance/ without one."""

from __future__ import annotations

import sys
from pathlib import Path

from suite import libraries, scores, selection, texts
from suite.build import write

TOPICS = {
    "axes": scores.axes,
    "documents": texts.documents,
    "errors": texts.errors,
    "functions": scores.functions,
    "groups": selection.groups,
    "layers": selection.layers,
    "libraries": libraries.libraries,
    "names": scores.names,
    "operators": scores.operators,
    "patterns": selection.patterns,
    "published": scores.zoo,
    "ranks": scores.ranks,
    "reductions": scores.reductions,
    "roles": selection.roles,
    "sameness": texts.sameness,
}


def main(folder: Path) -> None:
    """Write one file a topic."""
    for topic, cases in TOPICS.items():
        write(folder / f"{topic}.json", cases())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "conformance")
