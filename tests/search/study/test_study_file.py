"""Tests of search.study.study_file, on real journal files."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from search.errors import SearchError
from search.space.kinds import SamplerKind
from search.study.study_file import StudyFile

SPACE = {"x": FloatDistribution(-1.0, 1.0), "y": FloatDistribution(-1.0, 1.0)}


def fill(study: optuna.Study, n_trials: int) -> None:
    for _ in range(n_trials):
        trial = study.ask(dict(SPACE))
        study.tell(trial, trial.params["x"])


def test_goes_on_where_it_was(journal: Path) -> None:
    study = StudyFile(journal, "s").open()
    fill(study, 1)
    again = StudyFile(journal, "s").open()
    assert [trial.state for trial in again.trials] == [TrialState.COMPLETE] * 4
    assert again.trials[3].params == study.trials[3].params


def test_makes_missing_folders_and_resolves_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = StudyFile(Path("a/b/study.journal"), "s", "random").open()
    monkeypatch.chdir("/")
    fill(study, 1)
    assert (tmp_path / "a/b/study.journal").stat().st_size > 0


def test_reading_writes_nothing_and_leaves_out_a_line_that_is_being_written(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"worker')
    before = {path.name: path.read_bytes() for path in journal.parent.iterdir()}
    study = StudyFile(journal, "s").read()
    assert study is not None and len(study.trials) == 3
    assert StudyFile(journal, "another").read() is StudyFile(journal.parent / "none", "s").read() is None
    assert {path.name: path.read_bytes() for path in journal.parent.iterdir()} == before


@pytest.mark.parametrize(
    "line", [{"op_code": 0}, {"op_code": 99, "worker_id": "w"}, {"op_code": "x"}, {"op_code": None, "worker_id": "w"}]
)
def test_names_a_journal_with_records_of_something_else(journal: Path, line: dict[str, object]) -> None:
    for content in (b"", journal.read_bytes()):
        path = journal.with_name("other.journal")
        path.write_bytes(content + json.dumps(line, separators=(",", ":")).encode() + b"\n")
        with pytest.raises(SearchError, match=r"other\.journal holds records that Optuna cannot read"):
            StudyFile(path, "s").open()
    with pytest.raises(SearchError, match="cannot be used"):
        StudyFile(journal.parent, "s").open()


def propose(source: StudyFile, n_past: int, conditional: bool) -> list[dict[str, float]]:
    study = source.open()
    for number in range(n_past):
        study.sampler = source.make_sampler(number, conditional)
        fill(study, 1)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", ["tpe", "random"])
@pytest.mark.parametrize("conditional", [False, True])
def test_proposals_follow_from_the_seed(tmp_path: Path, kind: SamplerKind, conditional: bool) -> None:
    make = {name: StudyFile(tmp_path / name, "s", kind, seed, 3) for name, seed in zip("abc", (1, 1, 2), strict=True)}
    a, b, c = (propose(make[name], 6, conditional) for name in "abc")
    assert a == b
    assert all(mine != other for mine, other in zip(a, c, strict=True))
    assert len({params["x"] for params in a}) == 6


def test_running_trials_push_tpe_away(tmp_path: Path) -> None:
    """With four trials under way the same draw of the sampler is another one."""
    proposals = set()
    for n_running in (0, 4):
        source = StudyFile(tmp_path / str(n_running), "s", startup_trials=4)
        study = source.open()
        fill(study, 8)
        for _ in range(n_running):
            study.ask(dict(SPACE))
        study.sampler = source.make_sampler(12)
        proposals.add(study.ask(dict(SPACE)).params["x"])
    assert len(proposals) == 2


def test_tpe_beats_random_on_a_quadratic() -> None:
    def best(kind: SamplerKind, seed: int) -> float:
        study = optuna.create_study(sampler=StudyFile(Path("unused"), "s", kind, seed, 8).make_sampler(0))
        study.optimize(lambda trial: sum(trial.suggest_float(name, -1, 1) ** 2 for name in "xyz"), n_trials=30)
        return study.best_value

    kinds: tuple[SamplerKind, SamplerKind] = ("tpe", "random")
    mean_tpe, mean_random = (np.mean([best(kind, seed) for seed in range(5)]) for kind in kinds)
    assert mean_tpe < mean_random


def test_categories_survive_the_journal(tmp_path: Path) -> None:
    study = StudyFile(tmp_path / "j", "s").open()
    asked = study.ask({"kind": CategoricalDistribution(["a", "b", 3, True])})
    study.tell(asked, 1.0)
    assert StudyFile(tmp_path / "j", "s").open().trials[0].params == asked.params
