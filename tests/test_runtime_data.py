"""Texts of two sides that never overlap, and windows cut from them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pzc
from pzc.runtime.data.sampling import sampler
from pzc.runtime.data.texts import (
    Side,
    calibrated_part,
    calibration_side,
    eval_text,
    evaluation_side,
    sides,
)
from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise
from pzc.runtime.errors import PruningError

LINES = "".join(f"line {i} of many\n" for i in range(50))


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def test_two_files_are_used_whole(tmp_path: Path) -> None:
    one, other = written(tmp_path, "a.txt", LINES), written(tmp_path, "b.txt", "other\r\n")
    calibration, evaluation = sides(one, other)
    assert (calibration.text, calibration.part) == (LINES, "whole")
    assert (evaluation.text, evaluation.part) == ("other\r\n", "whole")
    assert calibration.sha256 != evaluation.sha256


@pytest.mark.parametrize("copied", [False, True])
def test_one_content_is_cut_at_a_line(tmp_path: Path, copied: bool) -> None:
    one = written(tmp_path, "a.txt", LINES)
    calibration, evaluation = sides(one, written(tmp_path, "b.txt", LINES) if copied else None)
    assert (calibration.part, evaluation.part) == ("first four fifths", "last fifth")
    assert calibration.text + "\n" + evaluation.text == LINES
    assert len(calibration.text) == pytest.approx(0.8 * len(LINES), rel=0.03)
    assert eval_text(one, held_out=True).text == evaluation.text
    assert eval_text(one).text == LINES


@given(st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=12))
def test_the_sides_of_a_file_share_nothing(lines: list[str]) -> None:
    import tempfile

    text = "\n".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        name = written(Path(folder), "a.txt", text)
        try:
            calibration, evaluation = sides(name)
        except PruningError as error:
            assert "too few lines" in error.message or "no text" in error.message
        else:
            assert calibration.text + "\n" + evaluation.text == text
            assert len(calibration.text) + 1 <= 0.8 * (len(text) + 1)


def test_rows_of_jsonl_are_joined_and_never_cut(tmp_path: Path) -> None:
    rows = [f"row {i}\nwith two lines" for i in range(10)]
    name = written(tmp_path, "a.jsonl", "\n".join(json.dumps({"text": row, "id": 1}) for row in rows) + "\n\n")
    assert eval_text(name).text == "\n\n".join(rows)
    calibration, evaluation = sides(name)
    assert calibration.text == "\n\n".join(rows[:8])
    assert evaluation.text == "\n\n".join(rows[8:])


def test_pydoc_has_two_sides() -> None:
    calibration, evaluation = sides("pydoc")
    assert (calibration.part, evaluation.part) == ("calibration", "evaluation")
    assert not set(calibration.text.split("\n\n")) & set(evaluation.text.split("\n\n"))
    assert eval_text("pydoc") == eval_text("pydoc", held_out=True) == evaluation


def test_a_named_text_and_a_file_go_together(tmp_path: Path) -> None:
    name = written(tmp_path, "a.txt", LINES)
    calibration, evaluation = sides("pydoc", name)
    assert (calibration.part, evaluation.part) == ("calibration", "whole")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no text"),
        ("a.txt", b" \n\t\n", "holds no text"),
        ("a.txt", b"abc\xff", "no text in UTF-8: byte 3"),
        ("a.txt", b"one line only", "too few lines"),
        ("a.jsonl", b'{"text": "a"}\nnot json\n', "line 2, is no JSON"),
        ("a.jsonl", b'{"text": "a"}\n\n{"content": "b"}\n', "line 3, has no field `text`"),
        ("a.jsonl", b'{"text": 5}\n', "line 1, has no field `text`"),
        ("a.jsonl", b"[" * 100000, "line 1, is no JSON"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PruningError, match=message):
        sides(str(path))


def test_texts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="there is no text") as caught:
        sides("wikitext")
    assert "wikitext2" in str(caught.value.hint)
    with pytest.raises(PruningError, match="is a directory"):
        sides(str(tmp_path))
    with pytest.raises(PruningError, match="and there is none here"):
        sides("self")


def test_wikitext_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PruningError, match="needs the package `datasets`") as caught:
        sides("wikitext2")
    assert "pzc[datasets]" in str(caught.value.hint)


def test_named_data_sets_follow_their_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    asked: list[tuple[Any, ...]] = []

    class Table(dict[str, list[str]]):
        def select(self, rows: range) -> Table:
            return Table(text=self["text"][: len(rows)])

    def load_dataset(*place: str, **options: Any) -> Table:
        asked.append((*place, options["split"]))
        return Table(text=[f"{options['split']} {i}" for i in range(2000)])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    calibration, evaluation = sides("wikitext2")
    assert calibration.text.startswith("train 0\n\ntrain 1\n\n")
    assert evaluation.text.startswith("test 0\n\ntest 1\n\n")
    assert len(calibration.text.split("\n\n")) == 2000
    calibration, evaluation = sides("c4")
    assert len(calibration.text.split("\n\n")) == 1100
    assert evaluation.text.startswith("validation 0 validation 1 ")
    assert asked[0] == ("Salesforce/wikitext", "wikitext-2-raw-v1", "train")
    assert asked[2] == ("allenai/c4", "train")


def test_a_network_that_fails_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    def load_dataset(*place: str, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PruningError, match=r"`c4` cannot be fetched: no route\n"):  # then comes the hint
        sides("c4")


def test_the_model_itself_writes_different_texts_for_the_sides(tiny: Callable[..., Any], tokenizer: Any) -> None:
    sample = sampler(tiny(), tokenizer, calibration=120, evaluation=120, length=20, seed=4)
    calibration, evaluation = sides("self", sampler=sample)
    assert calibration.text != evaluation.text
    assert calibration == sides("self", sampler=sample)[0]
    assert len(tokenise(tokenizer, calibration.text)) >= 120
    longer = sampler(tiny(), tokenizer, calibration=120, evaluation=400, length=20, seed=4)
    assert sides("self", sampler=longer)[0] == calibration
    assert sides("self", sampler=longer)[1].text.startswith(evaluation.text)
    other = sampler(tiny(), tokenizer, calibration=120, evaluation=120, length=20, seed=5)
    assert sides("self", sampler=other)[0] != calibration


def test_sampling_draws_from_the_models_distribution(tiny: Callable[..., Any], tokenizer: Any) -> None:
    model = tiny()
    with torch.no_grad():
        expected = model(torch.tensor([[tokenizer.bos_token_id]])).logits[0, -1].softmax(-1)
    from pzc.runtime.data.sampling import _stretches

    generator = torch.Generator().manual_seed(0)
    rows = _stretches(model, tokenizer, 4000, 1, generator, torch.device("cpu"))
    drawn = torch.tensor([row[0] if row else tokenizer.eos_token_id for row in rows])
    counts = torch.bincount(drawn, minlength=len(expected)) / 4000
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.03)


def test_tokens_are_those_of_one_string_without_special_ones(tokenizer: Any) -> None:
    ids = tokenise(tokenizer, "the of\n\nand")
    assert ids.dtype == torch.int64
    assert ids.tolist() == [1, 2, 3]


def test_calibration_windows_are_spread_evenly() -> None:
    found = calibration_windows(torch.arange(103), 4, 5)
    assert found.tolist() == [list(range(s, s + 5)) for s in (0, 25, 50, 75)]
    assert calibration_windows(torch.arange(20), 4, 5).tolist() == torch.arange(20).view(4, 5).tolist()


def test_evaluation_windows_follow_each_other() -> None:
    found = evaluation_windows(torch.arange(103), 3, 5)
    assert found.tolist() == torch.arange(15).view(3, 5).tolist()
    assert evaluation_windows(torch.arange(103), None, 5).shape == (20, 5)


@pytest.mark.parametrize("cut", [calibration_windows, evaluation_windows])
def test_too_little_text_says_what_would_fit(cut: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(PruningError, match="4 windows of 30 tokens need 120, but the text has 100") as caught:
        cut(torch.arange(100), 4, 30)
    assert "at most 3 windows" in str(caught.value.hint)
    with pytest.raises(PruningError) as caught:
        cut(torch.arange(10), 1, 30)
    assert "at most 10 tokens" in str(caught.value.hint)
    with pytest.raises(PruningError, match="at least one window"):
        cut(torch.arange(100), 0, 30)
    with pytest.raises(PruningError, match="need"):
        evaluation_windows(torch.arange(10), None, 30)


@pytest.mark.parametrize("changed", ["one more line", "a part", "other endings"])
def test_two_files_that_share_text_are_refused(changed: str, tmp_path: Path) -> None:
    lines = [f"line {i} of a text whose lines are long enough to be told apart" for i in range(50)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    other = {"one more line": [*lines, "one more"], "a part": lines[30:40], "other endings": [f"{x} " for x in lines]}
    (tmp_path / "b.txt").write_text("\n".join(other[changed]), encoding="utf-8")
    with pytest.raises(PruningError, match=r"of .*b\.txt is in .*a\.txt too"):
        sides(str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))


def test_a_run_that_evaluates_nothing_calibrates_on_the_same_text(tmp_path: Path) -> None:
    """And asks for no other side of a text that has two."""
    path, other = written(tmp_path, "a.txt", LINES), written(tmp_path, "b.txt", "Something else altogether.\n" * 9)
    cases = ((path, None), (path, other), (path, "pydoc"), ("pydoc", None))
    assert [calibration_side(*case) for case in cases] == [sides(*case)[0] for case in cases]
    asked: list[str] = []

    def noting(side: Side) -> str:
        asked.append(side)
        return f"the {side} side"

    assert calibration_side("self", sampler=noting).text == "the calibration side"
    assert asked == ["calibration"]


def test_a_run_that_calibrates_on_nothing_evaluates_on_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"line {i}" for i in range(50)), encoding="utf-8")
    assert evaluation_side(str(path)) == sides(str(path))[1]
    assert evaluation_side("pydoc") == sides("pydoc")[1]


def test_a_file_that_cannot_be_cut_or_read_has_calibrated_nothing(tmp_path: Path) -> None:
    """It may be what is evaluated on, in another form than calibration takes."""
    (tmp_path / "one.txt").write_text("a single line\n", encoding="utf-8")
    (tmp_path / "c4.json.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    for name in ("one.txt", "c4.json.gz"):
        assert calibrated_part(str(tmp_path / name), "0" * 64) is None
    whole = hashlib.sha256(b"a single line\n").hexdigest()
    assert calibrated_part(str(tmp_path / "one.txt"), whole) == "whole"


def test_tokens_to_calibrate_on_are_those_of_a_run(tmp_path: Path, tokenizer: Any) -> None:
    name = written(tmp_path, "a.txt", "the of and a to in is it\n" * 50)
    expected = calibration_windows(tokenise(tokenizer, sides(name)[0].text), 3, 16)
    assert torch.equal(pzc.calibration_tokens(tokenizer, name, windows=3, length=16), expected)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows.jsonl.gz", "rows.json.gz"])
def test_rows_may_be_packed_as_the_shards_of_c4_are(name: str, tmp_path: Path) -> None:
    file, text = tmp_path / name, "".join(f'{{"text": "row {i}"}}\n' for i in range(5))
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert sides(str(file))[0].text == "row 0\n\nrow 1\n\nrow 2\n\nrow 3"
    plain = tmp_path / "lines.txt.gz"
    plain.write_bytes(gzip.compress(b"a\nb\n"))
    assert evaluation_side(str(file), str(plain)).text == "a\nb\n"
