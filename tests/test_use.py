"""`use`: libraries of the language, files of one's own, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

import pzc
from pzc.compiler.language.modules import MAX_FILES, MAX_NESTING, libraries, library_source
from pzc.compiler.load import MetricNotFound
from pzc.compiler.metric import Compiled, Metric, compile_source
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.parse import MAX_LENGTH, parse
from pzc.grammar.printer import format_source


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"pzm 1\n{text}", encoding="utf-8")
    return folder / next(iter(files))


def errors(path: Path) -> list[Diagnostic]:
    try:
        found = list(compile_source(path.read_text(encoding="utf-8"), path.name, path=path).diagnostics)
    except SourceError as error:
        found = list(error.diagnostics)
    return [d for d in found if d.severity != "note"]


def metric(source: str) -> Metric:
    return compile_source(f"pzm 1 {source}", "m.pzm").metrics[-1]


NORMS = "fn share(x, axis) = x / sum(x, axis)\nlet size = abs(W)\nparam a = 0.5\nlet scaled = W * a\nmetric own = W"


def test_a_library_is_used_by_its_prefix_or_by_names() -> None:
    whole = metric("use paper metric m = sqr(W) * paper.mms(G)")
    named = metric("use paper (mms) metric m = sqr(W) * mms(G)")
    assert whole.core is named.core is metric("metric m = sqr(W) * ((G - min(G)) / (max(G) - min(G)))").core


def test_a_name_of_a_library_may_stand_before_the_core() -> None:
    assert metric("use paper (sqrt) metric m = sqrt(W)").core is metric("metric m = sqrt(abs(W))").core
    assert metric("use paper metric m = sqrt(abs(W)) * paper.sqrt(W)").core.args[0].op == "sqrt"


@pytest.mark.parametrize("name", libraries())
def test_every_library_is_sound_documented_and_in_canonical_layout(name: str) -> None:
    source = library_source(name)
    assert compile_source(source, f"{name}.pzm") == Compiled((), (), ())
    assert format_source(parse(source)[0], source) == source
    assert all(getattr(s, "doc", "") for s in parse(source)[0].statements if type(s).__name__ == "Fn")


def test_files_are_used_by_prefix_or_by_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "main.pzm": 'use "norms.pzm" use "lib/more.pzm" (twice) metric m = norms.share(norms.size, in) * twice(X)',
            "norms.pzm": NORMS,
            "lib/more.pzm": 'use "deeper/base.pzm" (two)\nfn twice(x) = x * two',
            "lib/deeper/base.pzm": "let two = 2",
        },
    )
    assert errors(path) == []
    assert pzc.load(str(path)).formula == "abs(W) / sum(abs(W), in) * (X * 2)"


def test_parameters_of_a_used_file_keep_their_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, {"main.pzm": 'use "norms.pzm" (scaled)\nmetric m = scaled', "norms.pzm": NORMS})
    assert pzc.load(str(path)).params == ()
    assert pzc.load(str(path)).formula == "W * 0.5"


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"a.pzm": "use papr\nmetric m = W"}, "PZ0501", "there is no library `papr`"),
        ({"a.pzm": 'use "b.pzm"\nmetric m = b.x'}, "PZ0501", "there is no file `b.pzm`"),
        ({"a.pzm": 'use "sub"\nmetric m = W', "sub/x.pzm": ""}, "PZ0501", "there is no file `sub`"),
        ({"a.pzm": 'use "a.pzm"\nmetric m = W'}, "PZ0502", "files use each other in a circle: a.pzm → a.pzm"),
        (
            {"a.pzm": 'use "b.pzm"\nmetric m = b.f(W)', "b.pzm": 'use "c.pzm"\nfn f(x) = x', "c.pzm": 'use "b.pzm"'},
            "PZ0503",
            "`b.pzm` has an error; on line 2: `c.pzm` has an error; on line 2: files use each other in a circle: "
            "b.pzm → c.pzm → b.pzm",
        ),
        (
            {"a.pzm": 'use "b.pzm"\nmetric m = b.f(W)', "b.pzm": "fn f(x) = y\nlet g = Q"},
            "PZ0503",
            "`b.pzm` has 2 errors; on line 2: `y` is not known here; did you mean `Y`?",
        ),
        ({"in/a.pzm": 'use "../b.pzm"\nmetric m = W', "b.pzm": NORMS}, "PZ0504",
         "`../b.pzm` lies outside the folder of the first file"),
        ({"a.pzm": 'use "/etc/x"\nmetric m = W'}, "PZ0504", "`/etc/x` lies outside the folder of the first file"),
        ({"a.pzm": 'use "b.pzm" (shar)\nmetric m = W * shar(W, in)', "b.pzm": NORMS}, "PZ0506",
         "`b.pzm` defines no `shar`"),
        ({"a.pzm": 'use "b.pzm" (own)\nmetric m = own', "b.pzm": NORMS}, "PZ0506", "`own` is a metric of `b.pzm`"),
        ({"a.pzm": 'use "b.pzm" (share)\nfn share(x) = x\nmetric m = share(W, in)', "b.pzm": NORMS}, "PZ0204",
         "`share` is defined twice"),
        ({"a.pzm": 'use "b-c.pzm"\nmetric m = W', "b-c.pzm": NORMS}, "PZ0501",
         "`b-c` cannot stand before the names of this file"),
        ({"a.pzm": 'use "metric.pzm"\nmetric m = W', "metric.pzm": NORMS}, "PZ0501",
         "`metric` cannot stand before the names of this file"),
        ({"a.pzm": 'use "größe.pzm"\nmetric m = W', "größe.pzm": NORMS}, "PZ0501",
         "`größe` cannot stand before the names of this file"),
        ({"a.pzm": 'use "b.pzm"\nmetric m = W', "b.pzm": NORMS}, "PZ0401", "`b` is never used"),
        ({"a.pzm": 'use "b.pzm" (share)\nmetric m = W', "b.pzm": NORMS}, "PZ0401", "`share` is never used"),
        ({"a.pzm": 'use "b.pzm"\nmetric m = b.nothing', "b.pzm": NORMS}, "PZ0201",
         "`b` has no `nothing`; it has scaled, share, size"),
        ({"a.pzm": 'use "b.pzm"\nmetric m = b', "b.pzm": NORMS}, "PZ0201",
         "`b` is a library: write `b.` and one of its names"),
    ],
)  # fmt: skip
def test_what_can_be_wrong(tmp_path: Path, files: dict[str, str], code: str, message: str) -> None:
    found = errors(write(tmp_path, files))
    assert [(d.code, d.message) for d in found] == [(code, message)]


def test_what_a_file_has_from_another_is_not_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"a.pzm": 'use "b.pzm" (share)\nmetric m = share(W, in)', "b.pzm": 'use "c.pzm" (share)', "c.pzm": NORMS},
    )
    assert [(d.code, d.message) for d in errors(path)] == [("PZ0506", "`b.pzm` defines no `share`")]


def test_a_link_leads_out_of_the_folder_in_vain(tmp_path: Path) -> None:
    path = write(tmp_path, {"in/a.pzm": 'use "link.pzm"\nmetric m = link.size', "out/b.pzm": NORMS})
    (tmp_path / "in" / "link.pzm").symlink_to(tmp_path / "out" / "b.pzm")
    assert [d.code for d in errors(path)] == ["PZ0504"]
    (tmp_path / "in" / "circle.pzm").symlink_to(tmp_path / "in" / "circle.pzm")
    write(tmp_path, {"in/a.pzm": 'use "circle.pzm"\nmetric m = circle.size'})
    assert [d.code for d in errors(path)] == ["PZ0501"]


def test_a_text_that_is_no_file_uses_libraries_only() -> None:
    with pytest.raises(SourceError) as caught:
        compile_source('pzm 1 use "b.pzm" metric m = W', "stdin")
    assert [d.code for d in caught.value.diagnostics] == ["PZ0501"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.pzm": 'use "b.pzm"\nmetric m = b.size'})
    (tmp_path / "b.pzm").write_bytes(b"\xff\xfe")
    assert [d.message for d in errors(path)] == ["`b.pzm` is not UTF-8 text"]
    (tmp_path / "b.pzm").write_text("#" * (4 * MAX_LENGTH + 1))
    assert [d.code for d in errors(path)] == ["PZ0505"]
    write(tmp_path, {"a.pzm": f'use "{"b" * 5000}.pzm"\nmetric m = W'})
    assert {d.code for d in errors(path)} == {"PZ0501"}
    write(tmp_path, {"a.pzm": 'use "b\0.pzm" (x)\nmetric m = W * x'})
    assert {d.code for d in errors(path)} == {"PZ0501"}


def test_too_many_files(tmp_path: Path) -> None:
    many = {f"f{i}.pzm": f"let v{i} = {i + 1}" for i in range(MAX_FILES + 1)}
    uses = "\n".join(f'use "f{i}.pzm" (v{i})' for i in range(MAX_FILES + 1))
    path = write(
        tmp_path, {"a.pzm": f"{uses}\nmetric m = W * ({' + '.join(f'v{i}' for i in range(MAX_FILES + 1))})", **many}
    )
    assert [d.code for d in errors(path)] == ["PZ0505"]


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_uses_twenty_in_a_row(tmp_path: Path, more: int) -> None:
    last = MAX_NESTING + more
    row = {f"f{i}.pzm": f'use "f{i + 1}.pzm"\nlet v = f{i + 1}.v' for i in range(1, last)}
    path = write(tmp_path, {"m.pzm": 'use "f1.pzm"\nmetric m = f1.v', **row, f"f{last}.pzm": "let v = W"})
    found = errors(path)
    assert [d.code for d in found] == ["PZ0503"] * more
    assert all("too many files" in d.message for d in found)


def test_a_file_that_is_used_twice_is_read_once(tmp_path: Path) -> None:
    """Otherwise the number of readings would double at every level."""
    chain = {
        f"h{i}.pzm": f'use "h{i + 1}.pzm" (v{i + 1})\nuse "h{i + 1}.pzm"\nlet v{i} = v{i + 1} + h{i + 1}.v{i + 1}'
        for i in range(8)
    }
    path = write(tmp_path, {"a.pzm": 'use "h0.pzm" (v0)\nmetric m = W * v0', **chain, "h8.pzm": "let v8 = 1"})
    assert errors(path) == []
    assert pzc.load(str(path)).reference_score(W=[[1.0, 2.0]]).tolist() == [[256.0, 512.0]]


@pytest.mark.parametrize(
    "text",
    [
        'use "norms.pzm" (share)\nmetric m = share(abs(W), out)',
        'use "norms.pzm"\nmetric m = norms.share(abs(W), out)',
        'use "norms.pzm"\nmetric m = norms.scaled',
        'use "norms.pzm" (scaled)\nmetric m = scaled',
    ],
)
def test_a_parameter_of_another_file_is_none_of_this_one(tmp_path: Path, text: str) -> None:
    norms = "param k = 2\nfn share(x, axis) = k * x / sum(x, axis)\nlet scaled = k * W"
    path = write(tmp_path, {"main.pzm": f"param k = 3\n{text}\nmetric n = abs(W) * k", "norms.pzm": norms})
    assert pzc.load(f"{path}:m").params == ()
    assert pzc.load(f"{path}:n").params == (("k", 3.0),)
    with pytest.raises(MetricNotFound, match="no parameter `k`"):
        pzc.load(f"{path}:m", {"k": 9})


def test_help_for_a_use(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.pzm": 'use "mean.pzm"\nmetric m = W', "mean.pzm": NORMS})
    assert [(d.code, d.help) for d in errors(path)] == [
        ("PZ0204", 'list the names that you need: `use "mean.pzm" (…)`'),
    ]
    path = write(tmp_path, {"a.pzm": "use paper (mms,)\nmetric m = mms(W)"})
    assert [d.help for d in errors(path)] == ["a name stands behind every comma: leave the last one out"]
    path = write(tmp_path, {"a.pzm": "use paper ()\nmetric m = paper.mms(W)"})
    assert "without a list" in str(errors(path)[0].help)


def test_a_name_that_hides_a_library_is_named_in_the_help(tmp_path: Path) -> None:
    for text in ("fn f(paper) = paper.mms(W) * paper\nmetric m = f(X)", "let paper = W\nmetric m = paper.mms(W)"):
        (found,) = errors(write(tmp_path, {"a.pzm": text}))
        kind = "parameter" if "fn" in text else "let"
        assert found.help == f"`paper` is a {kind} here: give it another name, and write `use paper` before"
    assert errors(write(tmp_path, {"a.pzm": "metric m = paper.mms(W)"}))[0].help == "write `use paper` before"
