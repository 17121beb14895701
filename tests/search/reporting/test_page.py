"""A report shows what a search's folder holds: a search that ended, one under way, and one that trained nothing."""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import math
import os
import re
import stat
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError
from optuna.trial import TrialState
from PIL import Image

from search.command_line.exit_codes import DONE, WRONG_INPUT
from search.errors import ConfigError, SearchError
from search.judging.openings import add_opening
from search.report import main
from search.reporting.data import MIN_WHOLE_TRIALS, read_report
from search.reporting.page import write_report
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Finalist, SeedRun, write_finalists
from search.run_folder.layout import CONFIRMATION_FILE
from search.run_folder.protocol_table import ProtocolRow, ProtocolTable
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.space.config import find_space, load_config
from search.space.objective import PAIR, Objective
from search.study.distributions import to_distributions
from search.study.ranking import RankedTrial, write_pareto
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, REASON, STARTING_POINT
from trainables.context import TrialContext
from trainables.protocol.spec import PROTOCOLS

EVIL = "<script>alert(1)</script> $\\alpha & 'co'"
CLASSES = ("tumor", EVIL)
BY_DICE = Objective()
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


def make_record(space: str = "lora.yaml", objective: Objective = BY_DICE) -> SearchRecord:
    config = dataclasses.replace(load_config(find_space(space), PROTOCOLS), objective=objective)
    context = TrialContext("nano", None, "/store", ("a.png",), ("c.png",), PROTOCOLS["recorded"], 3, 7, {}, 0)
    split = {"train": ["a.png"], "val": ["c.png"], "test": ["d.png"]}
    command = ["/somewhere/search/run.py", "--space", "my space.yaml"]
    environment = {"git_commit": "abc", "python": "3.11", "platform": "Linux", "packages": {"torch": "2.9"}}
    return SearchRecord(
        *("first", "lora", "run", "/data", split, "Drawn here.", "0123456789ab", "demo data (synthetic tissue)"),
        *(config.to_dict(), context, {**environment, "command": command}, [f"leak {EVIL}"]),
    )


def add_trials(folder: Path, record: SearchRecord, dice: Sequence[Sequence[float]]) -> None:
    """Adds trials with their curves; those of three epochs are complete, and the last one failed."""
    study = make_study_file(folder, record).open()
    is_pair = len(study.directions) > 1
    # Not all parameters of lora.yaml apply in each trial; here each trial shall have them all.
    shipped = load_config(find_space("lora.yaml"), PROTOCOLS).space
    space = {name: dataclasses.replace(parameter, when=()) for name, parameter in shipped.items()}
    for number, curve in enumerate(dice):
        trial = study.ask(to_distributions(space))
        trial.set_user_attr(RAY_TRIAL_ID, f"t{number}")
        if number == 0:
            trial.set_user_attr(STARTING_POINT, f"start {EVIL}")
        rows = [
            {"training_iteration": epoch, "val_dice": value, "val_iou": value / 2, "trained_parameters": 10**number}
            | {f"val_dice/{name}": value / 4 for name in CLASSES}
            for epoch, value in enumerate(curve, start=1)
        ]
        if len(curve) == 3:
            study.tell(trial, [max(curve), 10.0**number] if is_pair else max(curve))
        elif curve:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_user_attr(REASON, EVIL)
            study.tell(trial, state=TrialState.FAIL)
        place = folder / "trials" / f"trial-t{number}"
        place.mkdir(parents=True)
        (place / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_pairs(path: Path, models: Sequence[str], low: float = 0.5) -> None:
    draw = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "patient", "protocol", *models, "floor", "ceiling"])
        for number in range(8):
            for name in CLASSES:
                dice = [f"{value:.3f}" for value in draw.uniform(low, 0.7, len(models))]
                writer.writerow([f"r{number}.png", name, f"p{number}", "226c7851", *dice, "0.4", "0.95"])


def write_chosen(folder: Path) -> None:
    scales = {0.0: 0.55, 1.0: 0.65}
    runs = tuple(SeedRun(seed, "/c", 2, 0.6 + seed / 100, by_scale=scales) for seed in (1, 2))
    failed = Finalist("t2", 0.6, {}, (SeedRun(1, "", 0, math.nan, EVIL), SeedRun(2, "/c", 1, 0.5)))
    write_finalists(folder, [Finalist("t1", 0.66, {"adapter.rank": 8}, runs), failed], "226c7851")
    figures: dict[str, Any] = {"val_dice": 0.65, "val_dice_at_1": 0.65, "seeds_mean": 0.64, "seeds_std": 0.01}
    choice = {"trial_id": "t1", "seed": 1, "checkpoint": "c", "epoch": 2, "scale": 1.0, "protocol_id": "226c7851"}
    Chosen(**choice, **figures, n_seeds=2, n_finalists=2, refit=False, params={}).write(folder)


def write_finished(folder: Path, summary: Summary, objective: Objective = BY_DICE) -> None:
    """Writes the folder of a search that came to its end."""
    folder.mkdir()
    record = make_record(objective=objective)
    record.write(folder)
    whole = [[0.6, 0.66, 0.5], [0.6, 0.5, 0.4], *([0.5, 0.5, n / 10] for n in range(3))]
    add_trials(folder, record, [[0.4], *whole, []])
    write_pairs(folder / "scores_val_zeroshot.csv", ["zeroshot"])
    write_pairs(folder / "scores_test.csv", ["winner", "zeroshot"])
    write_chosen(folder)
    content = {**summary.to_dict(), "best_trial": "t1", "objective": list(objective.metrics)}
    Summary.from_dict(content).write(folder)
    (folder / "overlays").mkdir()
    Image.new("RGB", (60, 20), "purple").save(folder / "overlays" / "r&1.png")


@pytest.fixture
def finished(tmp_path: Path, summary: Summary) -> Path:
    write_finished(tmp_path / "first", summary)
    return tmp_path / "first"


def test_test_figures_are_of_the_opening_in_the_summary(finished: Path, make_summary: Callable[..., Summary]) -> None:
    first = read_report(finished)
    write_pairs(finished / "scores_test_2.csv", ["winner", "zeroshot"], low=0.69)  # of another trial
    assert read_report(finished).test == first.test and read_report(finished).verdict == first.verdict
    make_summary(test_opening=2).write(finished)
    second = read_report(finished)
    assert first.test is not None and second.test is not None
    assert first.test.overall["winner"] < 0.65 < 0.69 <= second.test.overall["winner"]
    (finished / "summary.json").unlink()  # trials are being added
    assert read_report(finished).test is None and read_report(finished).verdict is None


def test_a_finished_search_fills_one_page(finished: Path, tmp_path: Path) -> None:
    out = write_report(finished, tmp_path / "new" / "page.html")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    content = out.read_text(encoding="utf-8")
    page = Page(content)
    text = re.sub(r"\s+", " ", page.text)
    for words in (
        "Yes: zero-shot is beaten",
        "demo data (synthetic tissue): these numbers say nothing about BCSS",
        "recorded [226c7851]",
        "fingerprint 0123456789ab",
        "0.712",  # the winner on validation
        "python -m search.run --space 'my space.yaml'",
        "git commit abc",
        "Importance by fANOVA",
        "bootstrap over patients",
    ):
        assert words in text, words
    assert content.count('<tr class="leading">') == 1
    assert "1: t1" in content.split('<tr class="leading">')[1].split("</tr>")[0]
    # By class, two of trials, importance, slices, seeds, scales, one overlay.
    assert page.tags.count("img") == 8
    assert "/somewhere" not in text


def test_text_is_escaped_and_nothing_is_loaded(finished: Path, tmp_path: Path) -> None:
    content = write_report(finished, tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(content)
    assert "script" not in page.tags and "link" not in page.tags
    assert page.text.count(EVIL) >= 4  # caveat, class, starting point, failure
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources and all(value is not None and value.startswith("data:image/") for value in sources)
    drawings = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", content)
    assert drawings and all(b"<script" not in base64.b64decode(each) for each in drawings)
    assert content.startswith("<!DOCTYPE html>") and "default-src 'none'" in content


def test_the_same_folder_gives_the_same_page(finished: Path, tmp_path: Path) -> None:
    first, second = (write_report(finished, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_trials_are_read_with_their_curves_and_states(finished: Path) -> None:
    data = read_report(finished)
    assert [trial.state for trial in data.trials] == ["stopped", *["complete"] * 5, "failed"]
    assert (data.trials[1].best_epoch, data.trials[1].best) == (2, 0.66)
    assert (data.trials[6].best_epoch, data.trials[6].reason) == (0, EVIL)
    assert data.best is not None and data.best.trial_id == "t1"
    assert data.bar == 0.60001  # the search's own figure, not the pairs'
    assert data.test is not None and data.test.n_pairs == 16 and set(data.test.by_class) == set(CLASSES)
    assert sum(data.importance.values()) == pytest.approx(1.0)
    assert set(data.main_parameters) == set(data.record.config["space"])
    assert [run.by_scale for run in data.finalists[0].runs] == [{0.0: 0.55, 1.0: 0.65}] * 2


@pytest.mark.parametrize("n_whole", [0, 1, MIN_WHOLE_TRIALS - 1])
def test_few_whole_trials_show_no_importance(tmp_path: Path, n_whole: int) -> None:
    record = make_record()
    record.write(tmp_path)
    add_trials(tmp_path, record, [[0.4], *[[0.5, 0.6, n / 10] for n in range(n_whole)]])
    assert read_report(tmp_path).importance == {}
    assert "No importance is shown" in write_report(tmp_path, tmp_path / "page.html").read_text()


@pytest.mark.parametrize("stage", ["begun", "measured", "running", "ended"])
def test_a_search_under_way_is_shown_as_far_as_it_came(tmp_path: Path, stage: str) -> None:
    record = make_record()
    record.write(tmp_path)
    if stage != "begun":
        write_pairs(tmp_path / "scores_val_zeroshot.csv", ["zeroshot"])
    if stage in ("running", "ended"):
        add_trials(tmp_path, record, [[0.4], [0.6, 0.66]])
    if stage == "ended":
        write_chosen(tmp_path)
    data, text = read_report(tmp_path), Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert math.isfinite(data.bar) == (stage != "begun")
    assert "has not come to its end" in text and "Not known yet" in text
    assert ("No trial has started yet" in text) == (stage in ("begun", "measured"))
    assert ("0.165" in text) == (stage in ("running", "ended"))  # the leading trial's Dice of a class
    assert ("So far trial t1 leads on validation: val Dice 0.660" in text) == (stage in ("running", "ended"))


def test_two_objectives_have_their_pareto_set_drawn(tmp_path: Path, summary: Summary) -> None:
    write_finished(tmp_path / "first", summary, Objective(PAIR))
    members = [("t1", 0.66, 10), ("t0", 0.4, 1)]
    found = [RankedTrial(name, Path("/c"), 2, dice, {}, None, size) for name, dice, size in members]
    write_pareto(tmp_path / "first", found, "226c7851")
    data = read_report(tmp_path / "first")
    assert data.pareto == ("t1", "t0") and data.importance
    page = Page(write_report(tmp_path / "first", tmp_path / "page.html").read_text())
    assert "Dice and size" in page.text and "whatever its size" in page.text
    assert page.tags.count("img") == 9


def test_another_objective_ranks_and_is_named(tmp_path: Path, make_summary: Callable[..., Summary]) -> None:
    changed = make_summary(objective_value=0.33, zeroshot_objective_value=0.29)
    write_finished(tmp_path / "first", changed, Objective(("val_iou",)))
    data = read_report(tmp_path / "first")
    assert data.bar == 0.29 and data.best is not None and data.best.best == 0.33
    assert data.best.read_best("val_dice") == 0.66
    text = Page(write_report(tmp_path / "first", tmp_path / "page.html").read_text()).text
    assert "best val IoU" in text and "optimized: val IoU (val_iou): winner 0.330, zero-shot 0.290" in text


def test_a_search_that_trains_nothing_shows_no_ranking(tmp_path: Path) -> None:
    record = make_record("prompts.yaml")
    record.write(tmp_path)
    rows = tuple(ProtocolRow(f"t{n}", f"row {n}", f"recorded+{EVIL}", f"id{n}", 0.5, 0.4, 0.3, 0.9) for n in range(2))
    ProtocolTable("first", "", "0123", 0, "run", ("these rows are no ranking",), rows).write(tmp_path)
    text = Page(write_report(tmp_path, tmp_path / "page.html").read_text()).text
    assert "these rows are no ranking" in text and "row 1" in text and "id1" in text
    assert "Leaderboard" not in text and "has not come to its end" not in text


def test_a_second_opening_stands_at_the_top(finished: Path, tmp_path: Path) -> None:
    for _ in range(2):
        add_opening(finished, "trial t1", "226c7851")
    text = Page(write_report(finished, tmp_path / "page.html").read_text()).text
    assert "the test set was opened 2 times" in text.split("Does the winner beat")[0]


def test_the_command_writes_into_the_folder_by_default(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "first", "--storage", str(finished.parent)]) == DONE
    assert capsys.readouterr().out.strip() == str(finished / "report.html")
    assert (finished / "report.html").is_file()


def test_what_is_no_search_or_damaged_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", "second", "--storage", str(finished.parent)]) == WRONG_INPUT
    assert "known are: first" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds no search"):
        write_report(finished.parent, finished / "page.html")
    (finished / CONFIRMATION_FILE).write_text("{")
    assert main(["--run", str(finished)]) == WRONG_INPUT
    text = capsys.readouterr().err
    assert f"{finished / CONFIRMATION_FILE}\n    cannot be read: JSONDecodeError" in text


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
    assert page.tags.count("img") == 8
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
