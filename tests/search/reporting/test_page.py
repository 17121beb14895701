"""A report shows what a search's folder holds: a search that ended, one under way, and one that trained nothing."""

import base64
import dataclasses
import math
import os
import re
import stat
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import UndefinedError

from search.command_line.exit_codes import DONE, WRONG_INPUT
from search.errors import ConfigError, SearchError
from search.judging.openings import add_opening
from search.report import main
from search.reporting.data import MIN_TRIALS, read_report
from search.reporting.page import write_report
from search.run_folder.layout import CONFIRMATION_FILE
from search.run_folder.protocol_table import ProtocolRow, ProtocolTable
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.space.objective import PAIR, Objective
from search.study.ranking import RankedTrial, write_pareto

EVIL = "<script>alert(1)</script> $\\alpha & 'co'"
ERRORS = [OverflowError("cannot convert float infinity"), RecursionError(), AttributeError(), UndefinedError("x")]


class Page(HTMLParser):
    """What a browser sees of a page: its elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_finished_search_fills_one_page_that_is_the_same_again(finished: Path, tmp_path: Path) -> None:
    out = write_report(finished, tmp_path / "new" / "page.html")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    content = out.read_text(encoding="utf-8")
    page = Page(content)
    text = re.sub(r"\s+", " ", page.text)
    for words in (
        "Yes: zero-shot is beaten",
        "demo data (synthetic tissue): these numbers say nothing about SAM2 on tissue",
        "recorded [226c7851]",
        "fingerprint 0123456789ab",
        "Trial t3 was out after 1 of 2 seeds",
        "best single training, chosen",
        "soup of 2 seeds",
        "0.712",  # the winner on validation
        "python -m search.run --space 'my space.yaml'",
        "git commit abc",
        "Importance by fANOVA (Hutter et al. 2014) of 12 trials",
        "took 22 epochs; all in full would have taken 96 epochs",
        f"rung at epoch 1 {EVIL}",
        "bootstrap over patients",
    ):
        assert words in text, words
    assert content.count('<tr class="leading">') == 1
    assert "1: t1" in content.split('<tr class="leading">')[1].split("</tr>")[0]
    # By class, two of trials, importance, slices, parallel coordinates, seeds, scales, one overlay.
    assert page.tags.count("img") == 9
    assert "/somewhere" not in text
    check_nothing_is_loaded(content)
    assert main(["--run", str(finished)]) == DONE  # into the folder by default
    assert (finished / "report.html").read_text(encoding="utf-8") == content


def check_nothing_is_loaded(content: str) -> None:
    """Asserts that names are text, and that a browser asks for nothing."""
    page = Page(content)
    assert "script" not in page.tags and "link" not in page.tags
    assert page.text.count(EVIL) >= 4  # caveat, class, starting point, failure
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources and all(value is not None and value.startswith("data:image/") for value in sources)
    drawings = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", content)
    assert drawings and all(b"<script" not in base64.b64decode(each) for each in drawings)
    assert content.startswith("<!DOCTYPE html>") and "default-src 'none'" in content


@pytest.mark.parametrize("n_trials", [1, MIN_TRIALS - 1])
def test_few_trials_show_no_importance(make: SimpleNamespace, tmp_path: Path, n_trials: int) -> None:
    record = make.record()
    record.write(tmp_path)
    make.trials(tmp_path, record, [[0.4], *[[0.5, 0.6 + n / 100, 0.5] for n in range(n_trials - 1)], []])
    assert read_report(tmp_path).importance == {}
    assert "No importance is shown" in write_report(tmp_path, tmp_path / "page.html").read_text()


def test_a_search_of_a_notebook_has_a_command_by_its_options(make: SimpleNamespace, tmp_path: Path) -> None:
    record = make.record()
    environment = {**record.environment, "command": ["/lib/ipykernel_launcher.py", "-f", "/home/me/kernel.json"]}
    dataclasses.replace(
        record, environment=environment, arguments={"space": "a b.yaml", "seed": 3, "set": ["a=1"]}
    ).write(tmp_path)
    text = Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert f"python -m search.run --space 'runs/{record.search_id}/a b.yaml' --seed 3" in text
    assert "kernel" not in text and "a=1" not in text  # the copy of the space has it


@pytest.mark.parametrize("stage", ["begun", "measured", "running", "ended"])
def test_a_search_under_way_is_shown_as_far_as_it_came(make: SimpleNamespace, tmp_path: Path, stage: str) -> None:
    record = make.record()
    record.write(tmp_path)
    if stage != "begun":
        make.pairs(tmp_path / "scores_val_zeroshot.csv", ["zeroshot"])
    if stage in ("running", "ended"):
        make.trials(tmp_path, record, [[0.4], [0.6, 0.66]])
    if stage == "ended":
        make.chosen(tmp_path)
    data, text = read_report(tmp_path), Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert math.isfinite(data.bar) == (stage != "begun")
    assert "has not come to its end" in text and "Not known yet" in text
    assert ("No trial has started yet" in text) == (stage in ("begun", "measured"))
    assert ("0.165" in text) == (stage in ("running", "ended"))  # the leading trial's Dice of a class
    assert ("So far trial t1 leads on validation: val Dice 0.660" in text) == (stage in ("running", "ended"))


def test_two_objectives_have_their_pareto_set_drawn(make: SimpleNamespace, tmp_path: Path, summary: Summary) -> None:
    make.finished(tmp_path / "first", summary, Objective(PAIR))
    members = [("t1", 0.66, 10), ("t0", 0.4, 1)]
    found = [RankedTrial(name, Path("/c"), 2, dice, {}, None, size) for name, dice, size in members]
    write_pareto(tmp_path / "first", found, "226c7851")
    data = read_report(tmp_path / "first")
    assert data.pareto == ("t1", "t0") and data.importance
    page = Page(write_report(tmp_path / "first", tmp_path / "page.html").read_text())
    assert "Dice and size" in page.text and "whatever its size" in page.text
    assert page.tags.count("img") == 10


def test_another_objective_ranks(make: SimpleNamespace, tmp_path: Path, make_summary: Callable[..., Summary]) -> None:
    changed = make_summary(objective_value=0.33, zeroshot_objective_value=0.29)
    make.finished(tmp_path / "first", changed, Objective(("val_iou",)))
    data = read_report(tmp_path / "first")
    assert data.bar == 0.29 and data.best is not None and data.best.best == 0.33
    assert data.best.read_best("val_dice") == 0.66
    text = Page(write_report(tmp_path / "first", tmp_path / "page.html").read_text()).text
    assert "best val IoU" in text and "optimized: val IoU (val_iou): winner 0.330, zero-shot 0.290" in text


@pytest.mark.parametrize(
    ("scales", "words"),
    [((1.0,), "val Dice (val_dice) seed"), ((1.0, 0.5), "each epoch at the best of the scales 1.0 and 0.5")],
)
def test_scales_at_which_epochs_count_are_named(
    tmp_path: Path, make_record: Callable[..., SearchRecord], scales: tuple[float, ...], words: str
) -> None:
    make_record({"scales": scales}).write(tmp_path)
    text = Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert words in " ".join(text.split())


def test_a_search_that_trains_nothing_shows_no_ranking(make: SimpleNamespace, tmp_path: Path) -> None:
    record = make.record("prompts.yaml")
    record.write(tmp_path)
    rows = tuple(ProtocolRow(f"t{n}", f"row {n}", f"recorded+{EVIL}", f"id{n}", 0.5, 0.4, 0.3, 0.9) for n in range(2))
    ProtocolTable("first", "", "0123", 0, "run", ("these rows are no ranking",), rows).write(tmp_path)
    text = Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert "these rows are no ranking" in text and "row 1" in text and "id1" in text
    assert "Leaderboard" not in text and "has not come to its end" not in text


def test_the_page_is_named_and_a_second_opening_stands_at_its_top(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        add_opening(finished, "trial t1", "226c7851")
    assert main(["--run", "first", "--storage", str(finished.parent)]) == DONE
    assert capsys.readouterr().out.strip() == str(finished / "report.html")
    text = Page((finished / "report.html").read_text()).text
    assert "the test set was opened 2 times" in text.split("Does the winner beat")[0]


def test_what_is_no_search_or_damaged_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "second", "--storage", str(finished.parent)]) == WRONG_INPUT
    assert "known are: first" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds no search"):
        write_report(finished.parent, finished / "page.html")
    (finished / CONFIRMATION_FILE).write_text("{")
    assert main(["--run", str(finished)]) == WRONG_INPUT
    text = capsys.readouterr().err
    assert f"{finished / CONFIRMATION_FILE}\n    cannot be read: Invalid JSON" in text


def test_what_is_no_plain_file_is_never_replaced(finished: Path, tmp_path: Path) -> None:
    pipe, folder, file = tmp_path / "pipe", tmp_path / "folder", finished / CONFIRMATION_FILE
    os.mkfifo(pipe)
    folder.mkdir()
    (finished / "search.json").write_text("{")
    before = sorted(tmp_path.iterdir())
    for out, what in ((pipe, "no plain file"), (folder, "no plain file"), (file / "a" / "b.html", "is no folder")):
        with pytest.raises(ConfigError, match=f"{what} -> name a file"):
            write_report(finished, out)
    assert main(["--run", str(finished), "--out", "/"]) == WRONG_INPUT
    assert sorted(tmp_path.iterdir()) == before and stat.S_ISFIFO(pipe.stat().st_mode) and not list(folder.iterdir())


def test_a_damaged_picture_costs_no_report(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "overlays" / "r&1.png").read_bytes()
    (finished / "overlays" / "empty.png").touch()
    (finished / "overlays" / "half.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(finished / "overlays" / "pipe.png")
    page = Page(write_report(finished, tmp_path / "page.html").read_text())
    assert page.tags.count("img") == 9
    for name, what in (("empty", "is empty"), ("half", "cannot be decoded"), ("pipe", "is no plain file")):
        assert f"{name}.png cannot be shown: {what}" in page.text


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("part", ["search.reporting.data.read_epochs", "search.reporting.page.render_page"])
def test_whatever_a_damaged_file_breaks_is_reported(
    finished: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(part, fail)
    with pytest.raises(SearchError, match=f"cannot be reported: {type(error).__name__}"):
        write_report(finished, finished / "page.html")
