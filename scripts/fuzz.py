"""Look for input that breaks the parser, the checker or an importer, with coverage as the guide.

    pip install atheris
    python -m scripts.fuzz --target check --seconds 300

atheris (libFuzzer for Python) is not among the dependencies; it is needed here alone. The properties are those of
tests/fuzzing.py. Every input that reached something new is kept below --corpus, so a later run goes on from there. An
input that breaks a property ends the run and is written to the current folder as `crash-…`; `--replay FILE` runs one
input again without atheris.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TARGETS = ("parse", "check", "paper", "ir")
"""parse: the parser and the formatter. check: everything that is done with a text. paper: Pruner-Zero's JSON trees.
ir: `pzm-ir/1` documents."""


def properties() -> dict[str, Callable[[str], object]]:
    """What is done with an input, by target."""
    from tests import fuzzing

    return {
        "parse": fuzzing.examine_syntax,
        "check": fuzzing.examine,
        "paper": fuzzing.examine_tree,
        "ir": fuzzing.examine_document,
    }


def seeds(target: str) -> list[str]:
    """The inputs to begin with."""
    from pzc.compiler import ir
    from pzc.compiler.load import zoo
    from pzc.compiler.paper.export import export_paper_tree
    from pzc.compiler.paper.trees import TreeError
    from pzc.compiler.targets.torch import emit as _  # noqa: F401  loaded before the instrumentation counts
    from tests.test_fuzz import SEEDS

    if target in ("parse", "check"):
        return SEEDS
    if target == "ir":
        return [ir.emit(metric) for metric in zoo().values()]
    import json

    trees = []
    for metric in zoo().values():
        try:
            trees.append(json.dumps(export_paper_tree(metric)))
        except TreeError:
            continue
    return trees


def dictionary(target: str) -> list[str]:
    """Words that libFuzzer puts into its inputs."""
    from pzc.compiler.paper.trees import BINARY, LEAVES, UNARY
    from tests.test_fuzz import TOKENS

    if target == "paper":
        return ['"data"', '"left"', '"right"', "null", *(f'"{n}"' for n in (*LEAVES, *UNARY, *BINARY))]
    if target == "ir":
        keys = ("arms", "format", "leaves", "name", "nodes", "layers", "per", "score", "op", "axes", "args", "axis")
        return [f'"{n}"' for n in (*keys, *TOKENS) if n.replace(".", "").isalnum()]
    return TOKENS


def quoted(word: str) -> str:
    """A word as a line of libFuzzer's dictionaries."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def main() -> None:
    """Run one target for a while."""
    parser = argparse.ArgumentParser(description="Fuzz a target, with coverage as the guide.")
    parser.add_argument("--target", choices=TARGETS, default="check")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="a folder to keep inputs in; a temporary one without")
    parser.add_argument("--longest", type=int, default=2000, help="bytes of an input")
    parser.add_argument("--replay", type=Path, help="run this input alone, without atheris")
    given = parser.parse_args()
    if given.replay:
        properties()[given.target](given.replay.read_bytes().decode("utf-8", errors="replace"))
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not here: pip install atheris")
    with atheris.instrument_imports(include=["pzc"]):
        examine = properties()[given.target]
    with tempfile.TemporaryDirectory() as scratch:
        words, first = Path(scratch, "words"), Path(scratch, "first")
        words.write_text("".join(f"{quoted(w)}\n" for w in dictionary(given.target)), encoding="utf-8")
        first.mkdir()
        for i, text in enumerate(seeds(given.target)):
            (first / f"{i}").write_text(text, encoding="utf-8")
        corpus = given.corpus or Path(scratch, "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        options = {"max_total_time": given.seconds, "max_len": given.longest, "timeout": 30, "rss_limit_mb": 2048}
        arguments = [f"-{name}={value}" for name, value in {**options, "dict": words}.items()]
        atheris.Setup(
            [sys.argv[0], *arguments, str(corpus), str(first)],
            lambda data: examine(data.decode("utf-8", errors="replace")),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
