"""The page of a report: whole in itself, readable without eyes, in light and dark, on paper and on a telephone."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner

from pzc.cli.main import pzc as cli
from pzc.cli.search.transfer import command as transfer
from pzc.compiler.load import load
from pzc.runtime.errors import PruningError
from pzc.search.candidate import Candidate
from pzc.search.commands import compare_command
from pzc.search.errors import StoreError
from pzc.search.final import Outcome
from pzc.search.place import Place
from pzc.search.reading import Run, read_run
from pzc.search.report.html import element, formula, paragraph, uncoloured
from pzc.search.report.measure import metrics_of
from pzc.search.report.sections.contents import contents
from pzc.search.report.sections.elsewhere import table, where
from pzc.search.report.sections.winner import commands
from pzc.search.report.write import document
from pzc.search.store import Store
from pzc.search.transfer import COLUMNS, CONDITIONS, entries, keep, kept
from tests.pages import Page
from tests.runs import SMALL, candidate, family, run_of, write_run
from tests.terminal import Terminal, terminal_of

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_MODEL = {"sparsity", "windows", "targets", "masks", "layers"}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return terminal_of(monkeypatch)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small search on `pocket`."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = CliRunner().invoke(cli, ["search", *SMALL, "--run", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def reported(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    folder = tmp_path_factory.mktemp("report")
    done = CliRunner().invoke(cli, ["report", str(searched), "--output", str(folder), "--quiet"])
    assert done.exit_code == 0, done.output
    return folder


def test_the_page_loads_nothing(reported: Path) -> None:
    page = Page(reported / "report.html")
    assert page.loaded == []
    assert "@font-face" not in page.style
    assert not re.search(r"https?:", page.source)


def test_ids_are_unique_and_every_anchor_leads_somewhere(reported: Path) -> None:
    page = Page(reported / "report.html")
    assert len(page.ids) == len(set(page.ids))
    assert len(page.anchors) > 20
    assert set(page.anchors) <= set(page.ids)


def test_every_figure_says_in_words_what_it_shows(reported: Path) -> None:
    page = Page(reported / "report.html")
    figures = [a["id"] for tag, a in page.elements if tag == "figure"]
    labels = [a["aria-label"] for _, a in page.elements if a.get("role") == "img"]
    assert len(figures) == len(labels) == len(set(labels)) >= 12
    assert all(re.search(r"\d", label) and len(label) > 30 for label in labels)  # something of this run
    assert {f"figure-{name}" for name in NEEDS_MODEL} <= set(figures)
    captions = "".join(page.text)
    assert all(label.split(". ", 1)[1] in captions for label in labels)


def test_pictures_lie_beside_the_page_for_light_and_for_dark(reported: Path) -> None:
    from PIL import Image

    page = Page(reported / "report.html")
    names = {a["id"].removeprefix("figure-") for tag, a in page.elements if tag == "figure"}
    files = {path.stem for path in (reported / "figures").iterdir()}
    assert files == names | {f"{name}-dark" for name in names}
    for name in names:
        light, dark = (Image.open(reported / "figures" / f"{name}{end}.png").convert("L") for end in ("", "-dark"))
        assert light.getpixel((0, 0)) > 240 > 40 > dark.getpixel((0, 0))  # type: ignore[operator]
        assert light.size == dark.size


def test_colours_follow_the_page(reported: Path) -> None:
    source = (reported / "report.html").read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", source, re.S)
    assert drawings
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert not re.findall(r"#[0-9a-f]{6}\b", drawing.replace("#ffffff", ""))
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", source)), set(re.findall(r"(--[\w-]+):", source))
    assert used <= defined


def test_the_page_gives_the_numbers_of_the_run(reported: Path, searched: Path) -> None:
    run = read_run(Place(searched))
    text = unescape("".join(Page(reported / "report.html").text))
    assert f"{len(run.bred):,} candidates" in text
    kept = (searched / "hall_of_fame" / "01.pzm").read_text(encoding="utf-8").strip()
    assert kept in text
    fitness = re.search(r"On the search's windows: perplexity ([\d.]+);", kept)
    assert fitness
    assert f"perplexity, search windows {float(fitness[1]):.2f}" in words_of(run, only="winner")
    assert f"Candidate {run.winner.number}: " in kept
    held_out = re.search(r"on held-out text: perplexity ([\d.]+)\.", kept)
    assert held_out  # measured again from the file, on the same windows
    assert f"{float(held_out[1]):.2f}" in text


def drawing(reported: Path, name: str) -> str:
    """What is written in a figure, without its caption."""
    source = (reported / "report.html").read_text(encoding="utf-8")
    found = re.search(rf'<figure id="figure-{name}">.*?(<svg.*?</svg>)', source, re.S)
    assert found
    return unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", found[1], re.S)))


def test_axes_and_legends_say_what_they_are(reported: Path) -> None:
    assert "the winner" in drawing(reported, "pareto")
    assert "colour" not in drawing(reported, "layers")
    text = "".join(Page(reported / "report.html").text)
    assert "full colour is" in text
    assert "Perplexity at other targets" in text


def test_the_front_is_written_as_it_is_read() -> None:
    run = run_of([candidate(0, 20.0, formula="W ^ 2 * G / windows", complexity=7)])
    text = words_of(run, only="pareto")
    assert "W ^ 2" not in text
    assert f"{run.front[0][1].formula} per row 20.00 {run.front[0][1].complexity}" in text
    assert "candidate 0, the winner" in text


def test_the_page_says_what_the_surrogate_is_measured_in() -> None:
    found = [candidate(i, 20.0 + i, predictors={"surrogate": i / 9}) for i in range(12)]
    page = next(s for s in contents(run_of(found), [], None, uncoloured) if s.anchor == "predictors")
    assert "surrogate (normal score of the expected rank)" in page.body
    assert "The surrogate expects a rank" in page.body
    assert "The number of nodes is shown beside them" in page.body


def test_a_page_without_the_model_beside_other_files(terminal: Terminal, tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name, family()) for name in ("one", "two"))
    (one / "report" / "figures").mkdir(parents=True)
    for name in ("mine.txt", "report.html", "figures/pareto.png"):
        (one / "report" / name).write_text("before", encoding="utf-8")
    shown = terminal("report", str(one), "--against", str(two), "--no-model", "--json")
    assert shown.code == 0
    found = json.loads(shown.out)
    assert found["page"] == str(one / "report" / "report.html")
    assert not NEEDS_MODEL & set(found["figures"])
    assert "two" in "".join(Page(Path(found["page"])).text)
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for paths in found["figures"].values() for path in paths)
    assert sorted(p.name for p in (one / "report").iterdir()) == ["figures", "mine.txt", "report.html"]
    assert (one / "report" / "mine.txt").read_text(encoding="utf-8") == "before"


def test_a_page_of_studies_of_one_storage_and_of_a_folder(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a folder of the study's name is, without its run
    (tmp_path / "theirs").mkdir()
    url = f"sqlite:///{tmp_path}/runs.db"
    for name in ("mine", "theirs"):
        write_run(tmp_path / name, family(), Place(tmp_path / name, url, name))
    write_run(tmp_path / "folder", family())
    others = ("--against", "theirs", "--against", str(tmp_path / "folder"))
    shown = terminal("report", str(tmp_path / "mine"), "--storage", url, "--study", "mine", *others, "--no-model")
    assert shown.code == 0, shown.err
    text = " ".join(Page(tmp_path / "mine" / "report" / "report.html").text)
    assert "theirs" in text
    assert "folder" in text
    shown = terminal("report", str(tmp_path / "mine"), "--storage", url, "--study", "mine", "--against", "hers")
    assert (shown.code, "hers" in shown.err) == (1, True)


@pytest.mark.parametrize(
    "candidates",
    [
        [candidate(0, 20.0)],
        [candidate(0, 20.0), candidate(1, losses=(800.0,) * 4, status="evaluated"), candidate(2, status="refused")],
        [candidate(0, 30.0, generation=-2, operator="wanda"), candidate(1, 20.0, parents=(0,), operator="leaf")],
        [candidate(i, 20.0 + i % 7, parents=(i - 1,) * (i > 0), predictors={"output error": i / 9}) for i in range(60)],
    ],
    ids=["one", "no zoo", "one step", "predictors"],
)  # fmt: skip
@pytest.mark.filterwarnings("error", "ignore:unclosed database:ResourceWarning")  # Optuna leaves it to the collector
def test_small_and_odd_runs_have_a_page(tmp_path: Path, candidates: list[Candidate]) -> None:
    run = run_of(candidates, objective="kl")
    found = contents(run, [], None, uncoloured)
    (tmp_path / "page.html").write_text(document(run, found), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    assert set(page.anchors) <= set(page.ids)
    drawn = {figure.name for section in found for figure in section.figures}
    assert ("predictor-output-error" in drawn) == (len(candidates) == 60)
    assert {"evolution-time", "pareto", "lineage", "outcomes"} <= drawn


def words_of(run: Run, others: Sequence[Run] = (), *, only: str = "") -> str:
    """The text of a page, or of one of its sections."""
    found = [s.body for s in contents(run, others, None, uncoloured) if only in ("", s.anchor)]
    return " ".join(unescape(re.sub(r"<svg.*?</svg>|<[^>]*>", " ", " ".join(found), flags=re.S)).split())


def test_the_winner_is_shown_with_what_made_it_the_winner() -> None:
    run = replace(run_of(family()), first=8)
    assert "further ones together. On the search's windows alone candidate 6 has 25.00." in words_of(run, only="winner")
    known = words_of(replace(run, outcome=Outcome(8, 24.5, 8, 27.0, "wanda", 31.0, 12.0)), only="winner")
    assert "the winner has the lowest perplexity over all 8 windows together, 24.50." in known
    for heading, value in (("held-out text", "27.00"), ("wanda, held-out text", "31.00"), ("dense model", "12.00")):
        assert re.search(rf"{heading}\S*(?: held-out text)? {value}", known)
    assert "further ones together" not in words_of(run_of(family()), only="winner")


def test_the_winner_has_the_numbers_of_the_form_in_which_it_is_written() -> None:
    """On the search's windows too, where what was bred may have had others; an earlier version did not keep them."""
    run = replace(run_of(family()), first=8)
    as_bred = replace(run, outcome=Outcome(8, 24.5, 8, 27.0, "wanda", 31.0, 12.0))
    assert "perplexity, search windows 26.00" in words_of(as_bred, only="winner")
    text = words_of(replace(as_bred, outcome=replace(as_bred.outcome, losses=(math.log(27.0),) * 4)), only="winner")
    assert "perplexity, search windows 27.00" in text
    assert "change on search windows −10.0 %" in text


def test_settings_have_the_names_of_their_options() -> None:
    text = words_of(run_of(family(), limit=60.0, seeds=[], reach=None, seed_zoo=True), only="settings")
    for pair in ("--time 60s", "--reach –", "--seed-zoo yes", "--fitness-windows 4", "SHA-256 of the model m"):
        assert pair in text
    assert "--seed-metrics –" in text
    assert "limit" not in text


def test_a_run_that_searches_elsewhere_is_said_to() -> None:
    run, other = run_of(family()), run_of(family(), Path("runs/other"), space="paper", seed_zoo=True)
    text = words_of(run, [other], only="evolution")
    assert "other differs in --space (paper, here default) and --seed-zoo (yes, here –)" in " ".join(text.split())
    assert "not the algorithm alone" not in words_of(run, [run], only="evolution")


def test_the_page_numbers_candidates_after_the_published() -> None:
    text = document(run_of(family()), [])
    assert "7 candidates settled in 8 s of work, with numbers after those of the 2 published metrics." in text


def test_changes_have_one_decimal_in_the_lineage_too() -> None:
    assert "4 crossover with 1 28.00 −12.5 %" in words_of(run_of(family()), only="lineage")


def test_text_of_a_run_is_never_markup(tmp_path: Path) -> None:
    run = run_of(family(), Path("<b>&amp;"), data='"><img src=x>', space="<script>alert(1)</script>")
    (tmp_path / "page.html").write_text(document(run, contents(run, [], None, uncoloured)), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    assert {"script", "img", "b"}.isdisjoint(tag for tag, _ in page.elements)
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert paragraph("<i>") == "<p>&lt;i&gt;</p>"
    assert paragraph("`a <b` and ` alone") == "<p><code>a &lt;b</code> and ` alone</p>"
    assert element("p", title='"') == '<p title="&quot;"></p>'
    assert formula("a < b", lambda text: [(text, "pzm.name")]) == '<span class="pzm-name">a &lt; b</span>'


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "there is no folder"),
        ("empty", "there is no search in"),
        ("nothing measured", "has measured no candidate in full"),
        ("another model", "its model is another"),
        ("no model", "is not the model of this run"),
    ],
)
def test_what_cannot_be_reported_is_one_message(terminal: Terminal, tmp_path: Path, what: str, says: str) -> None:
    folder = write_run(tmp_path / "run", family())
    (tmp_path / "empty").mkdir()
    arguments = {
        "missing": [str(tmp_path / "nowhere")],
        "empty": [str(tmp_path / "empty")],
        "nothing measured": [str(write_run(tmp_path / "none", [*family()[:2], candidate(2)]))],
        "another model": [
            str(folder), "--no-model", "--against", str(write_run(tmp_path / "other", family(), model_sha256="n"))
        ],
        "no model": [str(folder)],
    }[what]  # fmt: skip
    shown = terminal("report", *arguments)
    assert shown.code == 1
    assert says in shown.err.replace("\n", " ")
    assert shown.err.count("error") == 1


def test_without_matplotlib_one_message_says_what_to_install(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = terminal("report", str(write_run(tmp_path / "run", family())), "--no-model")
    assert shown.code == 1
    assert "pip install 'pzc[report]'" in shown.err
    assert not (tmp_path / "run" / "report").exists()


# In a browser


MEASURE = """<script>
const parts = [...document.querySelectorAll('main > section > *')];
const wide = parts.filter(e => e.getBoundingClientRect().right > innerWidth + 1);
const drawn = [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width);
const text = [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height);
const luma = c => { const [r, g, b] = c.match(/\\d+/g).map(Number); return (r + g + b) / 3; };
const style = e => getComputedStyle(e);
document.body.innerHTML = '<pre id="measured">' + JSON.stringify({
  scrolls: document.documentElement.scrollWidth - innerWidth, wide: wide.length, drawn: drawn,
  text: Math.min(...text), paper: luma(style(document.documentElement).backgroundColor.startsWith('rgba(0, 0, 0, 0')
    ? style(document.body).backgroundColor : style(document.documentElement).backgroundColor),
  ink: luma(style(document.querySelector('svg text')).fill)}) + '</pre>';
</script>"""


def browse(page: Path, *options: str) -> str:
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}",
         "--virtual-time-budget=3000", *options, page.as_uri()],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 600])
def test_a_browser_shows_every_figure_at_any_width(reported: Path, tmp_path: Path, width: int, dark: bool) -> None:
    source = (reported / "report.html").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(source.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    shown = browse(page, f"--window-size={width},900", "--dump-dom", *scheme)
    found = re.search(r'<pre id="measured">(.*?)</pre>', shown)
    assert found
    measured = json.loads(unescape(found[1]))
    assert measured["scrolls"] <= 0
    assert measured["wide"] == 0
    assert len(measured["drawn"]) == source.count("<figure")
    assert min(measured["drawn"]) > 300
    assert measured["text"] >= 9
    assert (
        (measured["paper"] < 60 and measured["ink"] > 200) if dark else (measured["paper"] > 240 > 60 > measured["ink"])
    )


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_prints_it(reported: Path, tmp_path: Path) -> None:
    page = Path(shutil.copy(reported / "report.html", tmp_path))
    browse(page, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


# Transfer


def copied(run: Path, folder: Path) -> Path:
    """A run of a test's own, of which nothing was measured elsewhere."""
    return Path(shutil.copytree(run, folder / "run"))


def test_transfer_measures_what_compare_measures(searched: Path, tmp_path: Path, terminal: Terminal) -> None:
    run = copied(searched, tmp_path)
    options = ["--eval-windows", "4", "--windows", "2", "--length", "32", "--data", "pydoc"]
    done = CliRunner().invoke(
        transfer, [str(run), "--pattern", "2:4", "--zoo", "3", "--members", "2", "--csv", *options]
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["published"] for row in rows].count("True") == 3
    assert [float(row["perplexity"]) for row in rows] == sorted(float(row["perplexity"]) for row in rows)
    published = [row["metric"] for row in rows if row["published"] == "True"]
    files = [str(run / "hall_of_fame" / f"{n}.pzm") for n in ("01", "02")]
    metrics = [part for name in (*published, *files) for part in ("--metric", name)]
    shown = terminal("compare", "--model", "pocket", *metrics, "--pattern", "2:4", *options, "--seed", "1", "--json")
    want = [row["perplexity"] for row in json.loads(shown.out)[1:]]
    by_name = {row["metric"]: row for row in rows}
    for name, perplexity in zip((*published, "01", "02"), want, strict=True):
        assert float(by_name[name]["perplexity"]) == pytest.approx(perplexity, rel=1e-6)
        assert float(by_name[name]["ratio"]) == pytest.approx(perplexity / min(want[:3]), rel=1e-6)


def test_transfer_to_several_targets_as_a_table_and_as_json(searched: Path, tmp_path: Path) -> None:
    run = copied(searched, tmp_path)
    options = [
        str(run),
        "--sparsity",
        "0.3",
        "--pattern",
        "4:8",
        "--zoo",
        "2",
        "--members",
        "1",
        "--eval-windows",
        "2",
    ]
    shown = CliRunner().invoke(transfer, options)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("best of the zoo") == 2
    rows = json.loads(CliRunner().invoke(transfer, [*options, "--json"]).stdout)
    assert [row["target"] for row in rows] == ["30%"] * 3 + ["4:8"] * 3
    best = [row for row in rows if row["metric"] == row["best_published"]]
    assert [row["ratio"] for row in best] == [1.0, 1.0]
    assert kept(run)[-len(rows) :] == rows  # the second time they take the place of the first


def test_a_target_that_does_not_fit_leaves_the_others(searched: Path, tmp_path: Path) -> None:
    run = copied(searched, tmp_path)
    options = [str(run), "--zoo", "1", "--members", "1", "--eval-windows", "2", "--windows", "2", "--length", "16"]
    shown = CliRunner().invoke(transfer, [*options, "--pattern", "3:7", "--pattern", "2:4"])
    assert shown.exit_code == 0, shown.output
    assert "left out for pocket: 3:7 needs a multiple of 7 inputs" in shown.output
    assert {row["target"] for row in kept(run)} == {"2:4"}
    none = CliRunner().invoke(transfer, [*options, "--pattern", "3:7"])
    assert isinstance(none.exception, PruningError)


def shown_in(page: Path) -> str:
    return " ".join(Page(page).text).replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_shows_what_transfer_has_measured(searched: Path, tmp_path: Path) -> None:
    """Of the winner as it is now, with the numbers of the record; what is said of another winner is left out."""
    run = copied(searched, tmp_path)
    report = ["report", str(run), "--no-model", "--quiet", "--output", str(tmp_path / "report")]
    assert CliRunner().invoke(cli, report).exit_code == 0
    assert f"pzc search transfer {run}" in shown_in(tmp_path / "report" / "report.html")
    winner = load(str(run / "hall_of_fame" / "01.pzm")).formula
    row = {
        **dict.fromkeys(COLUMNS), "model": "models/other", "text": "a text (evaluation)", "target": "2:4",
        "metric": "01", "published": False, "formula": winner, "dense": 20.0, "perplexity": 27.0,
        "best_published": "wanda", "ratio": 0.9, "standard_error": 0.01,
    }  # fmt: skip
    of_another_group = {**row, "model": "gone", "target": "50%", "per": "block"}
    others = [{**row, "model": "gone", "formula": "abs(W)"}, {**row, "metric": "wanda", "published": True}]
    conditions = {"calibration": "a text (calibration)", "windows": 6, "eval_windows": 8, "length": 64, "seed": 3}
    keep(run, [{**r, **conditions} for r in (row, *others, of_another_group)])
    assert CliRunner().invoke(cli, report).exit_code == 0
    text = shown_in(tmp_path / "report" / "report.html")
    assert "below the best published metric in 1 of 1" in text
    assert "other, 2:4" in text
    assert "−10.0 % ± 1.0 %" in text
    assert "gone" not in text
    assert "a text (evaluation), 8 × 64 tokens a text (calibration), 6 × 64 tokens 3 20.00" in text
    (run / "transfer.json").write_text("[{}]", encoding="utf-8")
    broken = CliRunner().invoke(cli, report)
    assert isinstance(broken.exception, StoreError)
    assert "is no record of transfers" in broken.exception.message


def test_what_is_measured_of_one_group_leaves_another(tmp_path: Path) -> None:
    row = {**dict.fromkeys(COLUMNS), "model": "m", "text": "t", "target": "50%", "metric": "01", "per": "row"}
    keep(tmp_path, [row])
    keep(tmp_path, [{**row, "per": "layer"}, {**row, "perplexity": 2.0}])
    assert [(r["per"], r["perplexity"]) for r in kept(tmp_path)] == [("layer", None), ("row", 2.0)]


def many_kept(folder: Path, name: str) -> None:
    row = {**dict.fromkeys(COLUMNS), "model": name, "text": "t", "target": "50%", "metric": "01"}
    for seed in range(20):
        keep(folder, [{**row, "seed": seed}])


def test_two_transfers_of_one_run_lose_nothing(tmp_path: Path) -> None:
    both = [multiprocessing.get_context("fork").Process(target=many_kept, args=(tmp_path, name)) for name in "ab"]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(kept(tmp_path)) == 40


def test_what_is_measured_otherwise_stands_beside_what_was_measured_before(searched: Path, tmp_path: Path) -> None:
    """Other calibration, windows or lengths give other perplexities: neither takes the place of the other."""
    run = copied(searched, tmp_path)
    options = [str(run), "--sparsity", "0.4", "--zoo", "1", "--members", "1", "--quiet"]
    first = ["--eval-windows", "4", "--windows", "2", "--length", "32"]
    for changed in ([], ["--eval-windows", "2"], ["--windows", "3"], ["--length", "16"], ["--data", "self"], []):
        assert CliRunner().invoke(transfer, [*options, *first, *changed]).exit_code == 0
    rows = [r for r in kept(run) if r["metric"] == "01"]
    assert [(r["windows"], r["eval_windows"], r["length"], r["seed"]) for r in rows] == [
        (2, 2, 32, 1), (3, 4, 32, 1), (2, 4, 16, 1), (2, 4, 32, 1), (2, 4, 32, 1),
    ]  # fmt: skip
    assert [r["calibration"][:4] for r in rows] == ["pydo", "pydo", "pydo", "self", "pydo"]
    labels = {where(r, rows) for r in rows}
    assert len(labels) == len(rows)
    assert {len(r) for r in kept(run)} == {len(COLUMNS)}


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {name: "1" for name in COLUMNS if name not in CONDITIONS} | {"dense": 2.0, "perplexity": 3.0, "ratio": 1.0}
    (tmp_path / "transfer.json").write_text(json.dumps([{**old, "standard_error": 0.1}]), encoding="utf-8")
    (row,) = kept(tmp_path)
    assert [row[name] for name in CONDITIONS] == [None] * len(CONDITIONS)
    assert table([row]).count("not noted") == 2
    assert "0.0\N{NO-BREAK SPACE}%<" in table([{**row, "standard_error": None}])  # of one window
    new = {**row, "calibration": "t", "windows": 6, "eval_windows": 8, "length": 64, "seed": 0, "dtype": "float32"}
    assert "1, float32" in table([new])
    keep(tmp_path, [new])
    assert kept(tmp_path) == [row, new]
    assert where(row, [row, new]) == "1, 1, windows not noted"
    assert (
        where(new, [row, new]) == "1, 1, 8 windows, 64 tokens each, statistics of t, of 6 windows, seed 0, in float32"
    )


def test_transfer_has_the_type_of_the_run(tmp_path: Path) -> None:
    """Measured in another it stands beside that."""
    run = write_run(tmp_path / "run", family(), dtype="bfloat16")
    (run / "hall_of_fame").mkdir()
    (run / "hall_of_fame" / "01.pzm").write_text("pzm 1 metric a = abs(W)  per row", encoding="utf-8")
    options = [str(run), "--zoo", "1", "--members", "1", "--eval-windows", "2", "--windows", "2", "--length", "16"]
    for more in ([], ["--dtype", "float32"], []):
        assert CliRunner().invoke(transfer, [*options, *more]).exit_code == 0
    rows = [r for r in kept(run) if r["metric"] == "01"]
    assert [r["dtype"] for r in rows] == ["float32", "bfloat16"]
    assert [where(r, rows) for r in rows] == ["pocket, 50%, in float32", "pocket, 50%, in bfloat16"]
    assert CliRunner().invoke(transfer, [*options, "--model", "pocket"]).exit_code == 0
    assert [r["dtype"] for r in kept(run) if r["metric"] == "01"] == ["bfloat16", "float32"]  # the model's own


def test_a_record_that_is_none_shows_before_anything_is_measured(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(searched, run)
    (run / "transfer.json").write_text("[{}]", encoding="utf-8")
    monkeypatch.setattr("pzc.runtime.models.loading.load_model", None)
    monkeypatch.setattr("pzc.search.report.measure.measure", None)
    for command in (["search", "transfer", str(run)], ["report", str(run), "-o", str(tmp_path / "report")]):
        shown = CliRunner().invoke(cli, command)
        assert isinstance(shown.exception, StoreError)
        assert "is no record of transfers" in shown.exception.message


def test_what_was_measured_is_kept_when_the_next_model_does_not_load(searched: Path, tmp_path: Path) -> None:
    run = copied(searched, tmp_path)
    options = ["--model", "pocket", "--model", str(tmp_path / "none"), "--zoo", "1", "--members", "1"]
    small = ["--eval-windows", "2", "--windows", "2", "--length", "32"]
    shown = CliRunner().invoke(transfer, [str(run), *options, *small])
    assert shown.exit_code == 1
    assert [row["model"] for row in kept(run)] == ["pocket", "pocket"]


def test_a_run_in_a_database_is_named_so(tmp_path: Path) -> None:
    place = Place(tmp_path / "run", f"sqlite:///{tmp_path}/a.db", "mine")
    text = "".join(commands(replace(run_of(family()), place=place), tmp_path / "01.pzm"))
    assert f"pzc search transfer {tmp_path}/run --storage sqlite:///{tmp_path}/a.db --study mine --model" in text


def test_the_page_has_the_command_that_the_search_has(tmp_path: Path) -> None:
    run, file = run_of(family()), tmp_path / "01.pzm"
    assert compare_command(run.settings, file, "wanda") in commands(run, file)
    inside = [replace(c, per="block") for c in family()]
    assert compare_command(run.settings, file, "wanda", "block") in commands(run_of(inside), file)
    ended = Outcome(6, 24.5, 8, 27.0, "magnitude", 31.0, 12.0, "layer")
    assert compare_command(run.settings, file, "magnitude", "layer") in commands(replace(run, outcome=ended), file)


def test_commands_name_the_model_where_it_is_now(tmp_path: Path) -> None:
    run, file = run_of(family()), tmp_path / "01.pzm"
    pruning, comparing, _ = commands(run.with_model_at("a folder/model"), file)
    assert "pzc prune --model 'a folder/model'" in pruning
    assert "--model 'a folder/model'" in comparing
    kept = commands(run.with_model_at("LlamaForCausalLM in memory"), file)[:2]
    assert all("--model MODEL " in command for command in kept)


def test_the_best_published_metric_of_the_final_is_measured(tmp_path: Path) -> None:
    """Of several that the final has measured the best on held-out text need not be the best by fitness."""
    ria = candidate(9, 31.0, generation=-1, operator="ria", per="layer")
    run = run_of([*family(), ria], tmp_path)
    assert [m.name for m in metrics_of(run)[1:]] == ["wanda", "magnitude"]
    for known, per in ((None, "layer"), ("col", "col")):
        ended = replace(run, outcome=Outcome(6, 24.5, 8, 27.0, "ria", 31.0, 12.0, known))
        _, wanda, best, _ = metrics_of(ended)
        assert (wanda.name, best.name, best.per) == ("wanda", "ria", per)


@pytest.mark.parametrize(("own", "options"), [({"pattern": "2:4"}, ()), ({}, ("--pattern", "2:4"))])
def test_transfer_to_a_pattern_has_no_group(own: dict[str, str], options: tuple[str, ...], tmp_path: Path) -> None:
    run = str(write_run(tmp_path / "run", family(), **own))
    shown = CliRunner().invoke(cli, ["search", "transfer", run, "--per", "layer", *options])
    assert (shown.exit_code, "a pattern, which replaces --per" in shown.output) == (2, True)


def test_transfer_needs_a_hall_of_fame(tmp_path: Path) -> None:
    shown = CliRunner().invoke(transfer, [str(write_run(tmp_path / "run", family()))])
    assert isinstance(shown.exception, StoreError)
    assert "has no hall of fame yet" in shown.exception.message
    assert CliRunner().invoke(transfer, [str(tmp_path / "run"), "--pattern", "4:2"]).exit_code == 2


def test_a_published_metric_is_tried_elsewhere_once_in_its_best_group(tmp_path: Path) -> None:
    """A space that lacks its group has measured it in each of its own."""
    zoo = [("taylor", "col"), ("wanda", "row"), ("taylor", "row"), ("magnitude", "row")]
    several = [candidate(k, 30.0 + k, generation=-1, operator=name, per=per) for k, (name, per) in enumerate(zoo)]
    run = run_of([*several, candidate(9, 25.0)], tmp_path)
    (run.folder / "hall_of_fame").mkdir()
    (run.folder / "hall_of_fame" / "01.pzm").write_text("pzm 1 metric a = abs(W)", encoding="utf-8")
    names = [(e.name, e.metric.per) for e in entries(run, 1, 9)]
    assert names == [("01", "row"), ("taylor", "col"), ("wanda", "row"), ("magnitude", "row")]


def test_the_winner_is_who_has_the_first_place(tmp_path: Path) -> None:
    """Further windows may have put another before the best on the search's own."""
    folder = write_run(tmp_path / "run", family())
    assert read_run(Place(folder)).winner.number == 6
    Store(Place(folder), resume=True).set_winner(8)
    assert read_run(Place(folder)).winner.number == 8
