"""Tests of search.study.study_file, on real journal files."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import get_args

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from search.errors import SearchError
from search.space.config import SamplerKind
from search.study.journal import drop_torn_line, remove_stale_lock, undo_if_torn, undo_torn_lines
from search.study.study_file import StudyFile, make_sampler, open_study

SPACE = {"x": FloatDistribution(-1.0, 1.0), "y": FloatDistribution(-1.0, 1.0)}


def fill(study: optuna.Study, n_trials: int) -> None:
    for _ in range(n_trials):
        trial = study.ask(dict(SPACE))
        study.tell(trial, trial.params["x"])


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "study.journal"
    fill(StudyFile(path, "s").open(), 3)
    return path


def test_goes_on_where_it_was(journal: Path) -> None:
    study = StudyFile(journal, "s").open()
    fill(study, 1)
    again = StudyFile(journal, "s").open()
    assert [trial.state for trial in again.trials] == [TrialState.COMPLETE] * 4
    assert again.trials[3].params == study.trials[3].params


def test_makes_missing_folders_and_resolves_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = open_study(Path("a/b/study.journal"), "s", make_sampler("random", 0))
    monkeypatch.chdir("/")
    fill(study, 1)
    assert (tmp_path / "a/b/study.journal").stat().st_size > 0


@pytest.mark.parametrize(
    "tail",
    [
        b'{"op_code":4,"worker',  # cut off
        b'{"op_code":4,"worker_id":"w"}',  # whole, but for its line end
        b"\0" * 512,  # what a file system may leave after a power cut
        b'{"op_c{"op_code":4,"worker_id":"w"}\n',  # an append that merged with a torn line
    ],
)
def test_drops_a_torn_last_line(journal: Path, tail: bytes) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    assert drop_torn_line(journal) == len(tail)
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + tail)
    fill(StudyFile(journal, "s").open(), 1)
    assert len(StudyFile(journal, "s").open().trials) == 4


def test_drops_a_torn_first_line(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"op_c')
    fill(StudyFile(tmp_path / "j", "s").open(), 1)
    assert len(StudyFile(tmp_path / "j", "s").open().trials) == 1


def test_names_a_damaged_line_and_leaves_the_file_alone(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b'{"op_code":\n', *lines[2:]])
    journal.write_bytes(damaged)
    with pytest.raises(SearchError, match=r"study\.journal:3: damaged line"):
        StudyFile(journal, "s").open()
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"notes of mine", b"# notes\nof mine\n", b"\x89PNG\r\n"])
def test_refuses_and_keeps_a_file_that_is_no_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(SearchError, match="not a journal"):
        StudyFile(path, "s").open()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        {"op_code": 0},
        {"op_code": 99, "worker_id": "w"},
        {"op_code": "x"},
        {"op_code": None, "worker_id": "w"},
    ],
)
def test_names_a_journal_with_records_of_something_else(journal: Path, line: dict[str, object]) -> None:
    for content in (b"", journal.read_bytes()):
        path = journal.with_name("other.journal")
        path.write_bytes(content + json.dumps(line, separators=(",", ":")).encode() + b"\n")
        with pytest.raises(SearchError, match=r"other\.journal holds records that Optuna cannot read"):
            StudyFile(path, "s").open()


def test_a_line_of_brackets_alone_is_damaged(journal: Path) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"[" * 100_000 + b"\n" + whole)
    with pytest.raises(SearchError, match="damaged line"):
        StudyFile(journal, "s").open()


def test_takes_back_what_was_being_written(journal: Path) -> None:
    whole = journal.read_bytes()
    with pytest.raises(KeyboardInterrupt), undo_if_torn(journal):
        journal.write_bytes(whole + b"more")
        raise KeyboardInterrupt
    assert undo_torn_lines(journal) and not undo_torn_lines(journal)
    assert journal.read_bytes() == whole


@pytest.mark.parametrize("note", [b"", b"\0\0\0", b"-1", b"x", b"1_0", b"1.0", b"\xff", b"9" * 9, b"9" * 9999])
def test_refuses_a_note_that_is_no_length_of_the_journal(journal: Path, note: bytes) -> None:
    whole, mark = journal.read_bytes(), journal.with_name("study.journal.undo")
    mark.write_bytes(note)
    with pytest.raises(SearchError, match=r"study\.journal\.undo is damaged: .* from 0 to \d+ bytes"):
        undo_torn_lines(journal)
    assert journal.read_bytes() == whole and mark.exists()


def test_refuses_a_note_that_cannot_be_read_or_whose_journal_is_gone(journal: Path) -> None:
    mark = journal.with_name("study.journal.undo")
    mark.mkdir()
    with pytest.raises(SearchError, match=r"study\.journal\.undo notes cannot be taken back"):
        undo_torn_lines(journal)
    mark.rmdir()
    mark.write_text("5")
    journal.unlink()
    with pytest.raises(SearchError, match="from 0 to 0 bytes"):
        undo_torn_lines(journal)


def test_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="cannot be used"):
        StudyFile(tmp_path, "s").open()


def test_refuses_the_other_direction(journal: Path) -> None:
    with pytest.raises(SearchError, match="made to maximize its values, but is now asked to minimize them"):
        StudyFile(journal, "s", modes=("min",)).open()


@pytest.mark.parametrize(("age_s", "removed"), [(61.0, True), (30.0, False)])
def test_removes_only_a_stale_lock(journal: Path, age_s: float, removed: bool) -> None:
    lock = journal.with_name("study.journal.lock")
    lock.symlink_to(journal)
    then = time.time() - age_s
    os.utime(lock, (then, then), follow_symlinks=False)
    assert remove_stale_lock(journal) == removed
    assert lock.is_symlink() != removed


def test_opens_at_once_past_a_stale_lock(journal: Path) -> None:
    lock = journal.with_name("study.journal.lock")
    lock.symlink_to(journal)
    os.utime(lock, (0, 0), follow_symlinks=False)
    start = time.monotonic()
    fill(StudyFile(journal, "s").open(), 1)
    assert time.monotonic() - start < 5.0


def propose(source: StudyFile, n_past: int, conditional: bool) -> list[dict[str, float]]:
    study = source.open()
    for number in range(n_past):
        study.sampler = source.make_sampler(number, conditional)
        fill(study, 1)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", ["tpe", "random"])
@pytest.mark.parametrize("conditional", [False, True])
def test_proposals_follow_from_the_seed(tmp_path: Path, kind: SamplerKind, conditional: bool) -> None:
    make = {
        name: StudyFile(tmp_path / name, "s", kind, seed, 3)
        for name, seed in zip("abc", (1, 1, 2), strict=True)
    }
    a, b, c = (propose(make[name], 6, conditional) for name in "abc")
    assert a == b
    assert all(mine != other for mine, other in zip(a, c, strict=True))
    assert len({params["x"] for params in a}) == 6


def test_running_trials_push_tpe_away(tmp_path: Path) -> None:
    study = open_study(tmp_path / "j", "s", make_sampler("tpe", 0, startup_trials=4))
    fill(study, 8)
    asked = [study.ask(dict(SPACE)).params["x"] for _ in range(4)]
    assert len(set(asked)) == 4


def test_tpe_beats_random_on_a_quadratic() -> None:
    def best(kind: SamplerKind, seed: int) -> float:
        study = optuna.create_study(sampler=make_sampler(kind, seed, 8))
        study.optimize(
            lambda trial: sum(trial.suggest_float(name, -1, 1) ** 2 for name in "xyz"), n_trials=30
        )
        return study.best_value

    mean_tpe, mean_random = (
        np.mean([best(kind, seed) for seed in range(5)]) for kind in get_args(SamplerKind)
    )
    assert mean_tpe < mean_random


def test_is_small_and_picklable(journal: Path) -> None:
    source = StudyFile(journal, "s", seed=3)
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("kind", "seed", "startup_trials", "rule"),
    [("cmaes", 0, 1, "one of tpe, random"), ("tpe", -1, 1, "seed=-1"), ("tpe", 0, -1, "startup_trials=-1")],
)
def test_refuses_samplers(kind: str, seed: int, startup_trials: int, rule: str) -> None:
    with pytest.raises(SearchError, match=rule):
        make_sampler(kind, seed, startup_trials)  # type: ignore[arg-type]


def test_categories_survive_the_journal(tmp_path: Path) -> None:
    study = StudyFile(tmp_path / "j", "s").open()
    asked = study.ask({"kind": CategoricalDistribution(["a", "b", 3, True])})
    study.tell(asked, 1.0)
    assert StudyFile(tmp_path / "j", "s").open().trials[0].params == asked.params
