"""Searches started at the same moment in one folder: one storage, one cache, one MLflow database, all new.

Two have names of their own; a third has the name of the second: one of those two runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from searches import LIMIT_S, N_DEMO, SearchProcess, read_screen, start_check, start_search

from search.run_folder.search_record import SearchRecord
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, read_trials
from trainables.demo.tissue import DEMO_COUNTS

pytestmark = pytest.mark.slow

NUM_TRIALS, MAX_EPOCHS = 2, 1
NAMES, SEEDS = ("north", "south", "south"), (1, 2, 3)
# Opens the store in the working directory as soon as a line comes in, with everything imported before.
CONNECT = """
import sys
import mlflow.store.tracking.sqlalchemy_store
from search.tracking.tracker import Tracker
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker.connect("lora")
print(tracker.start_run("any", "search"))
"""


@dataclass(frozen=True)
class Ended:
    """A search that has ended, and what it printed."""

    folder: Path
    seed: int
    code: int
    screen: str

    @property
    def record(self) -> SearchRecord:
        return SearchRecord.read(self.folder)

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    def read_best_dice(self) -> dict[str, float]:
        """Returns the best validation Dice of each trial of the study, by Ray's trial id."""
        trials = read_trials(make_study_file(self.folder, self.record))
        return {trial.user_attrs[RAY_TRIAL_ID]: trial.user_attrs["best_value"] for trial in trials}


def without_store() -> dict[str, str]:
    """Returns the environment of a process that uses MLflow's store in its working directory."""
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, small_root: Path) -> list[Ended]:
    """Three searches on the same data in a fresh folder: two of different names and seeds, and the one that lost."""
    folder = tmp_path_factory.mktemp("several")
    effort = ("--num-trials", str(NUM_TRIALS), "--max-epochs", str(MAX_EPOCHS), "--confirm", "0")
    options = ("--space", "lora.yaml", "--data", str(small_root), *effort, "--max-concurrent", "1")
    screens = [f"screen-{seed}.txt" for seed in SEEDS]
    processes: list[SearchProcess] = []
    try:
        for name, seed, screen in zip(NAMES, SEEDS, screens, strict=True):
            processes.append(start_search(folder, *options, "--name", name, "--seed", str(seed), screen=screen))
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
    given = zip(NAMES, SEEDS, codes, screens, strict=True)
    found = [Ended(folder / "runs" / name, seed, code, read_screen(folder, log)) for name, seed, code, log in given]
    return sorted(found, key=lambda each: each.code)


@pytest.fixture(scope="module")
def pair(ended: list[Ended]) -> list[Ended]:
    """The two that ran."""
    assert [each.code for each in ended] == [0, 0, 2], "\n\n".join(each.screen for each in ended)
    return ended[:2]


def read_runs(folder: Path, experiment: str) -> list[Any]:
    """Returns an experiment's runs in the database below a folder, read back by MLflow's own client."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


@pytest.fixture(scope="module")
def runs(pair: list[Ended]) -> list[Any]:
    return read_runs(pair[0].folder.parents[1], "lora")


def test_a_database_that_several_make_at_once_serves_all(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT],
            cwd=tmp_path,
            env=without_store(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * 3, [error for _, error in answers]
    assert {run.info.run_id for run in read_runs(tmp_path, "lora")} == {answer.strip() for answer, _ in answers}


def test_one_decoded_store_is_left(pair: list[Ended]) -> None:
    stores = {Path(each.record.context.store_folder) for each in pair}
    assert len(stores) == 1
    assert set((pair[0].folder.parent / ".cache").iterdir()) == stores  # nothing half made


def test_one_demo_and_its_decoded_store_are_left(tmp_path: Path) -> None:
    """By two pre-flights at once, which make what a search makes."""
    processes = [start_check(tmp_path) for _ in range(2)]
    for process in processes:
        process.join(LIMIT_S)
    assert [process.exitcode for process in processes] == [0, 0]
    cache = tmp_path / "runs" / ".cache"
    assert len(list(cache.iterdir())) == 2  # nothing half made
    assert len(list((cache / "demo-tissue" / "images").iterdir())) == N_DEMO * len(DEMO_COUNTS)


def test_each_study_has_its_own_trials(pair: list[Ended]) -> None:
    ids = [set(each.read_best_dice()) for each in pair]
    assert [len(each) for each in ids] == [NUM_TRIALS] * 2 and not ids[0] & ids[1]
    for each, own in zip(pair, ids, strict=True):
        assert {path.name for path in (each.folder / "trials").glob("trial-*")} == {f"trial-{one}" for one in own}
        assert set(json.loads((each.folder / "mlflow_runs.json").read_text())) == own


def test_each_parent_run_has_exactly_its_own_children(pair: list[Ended], runs: list[Any]) -> None:
    parents = {run.info.run_id: run for run in runs if run.data.tags["run_kind"] == "search"}
    assert set(parents) == {each.summary["parent_run_id"] for each in pair}
    assert all(run.info.status == "FINISHED" for run in runs)
    assert len(runs) == 2 * (1 + 2 + NUM_TRIALS)
    for each in pair:
        parent = each.summary["parent_run_id"]
        assert parents[parent].info.run_name == each.folder.name
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        kinds = Counter(run.data.tags["run_kind"] for run in children)
        assert kinds == {"zeroshot": 1, "recorded": 1, "trial": NUM_TRIALS}
        trials = {run.data.tags["ray_trial_id"]: run for run in children if "ray_trial_id" in run.data.tags}
        best = each.read_best_dice()
        assert set(trials) == set(best)
        for trial_id, run in trials.items():
            assert run.data.tags["seed"] == str(each.seed)
            assert run.data.metrics["best_val_dice"] == pytest.approx(best[trial_id])
            assert Path(run.info.artifact_uri).parent.name == run.info.run_id


def test_each_summary_tells_of_its_own_trials(pair: list[Ended], runs: list[Any]) -> None:
    parents = {run.info.run_id: run for run in runs}
    for each in pair:
        summary, best = each.summary, each.read_best_dice()
        assert (summary["search_id"], summary["seed"]) == (each.folder.name, each.seed)
        assert sum(summary["trials"].values()) == NUM_TRIALS
        assert summary["search_val_dice"] == pytest.approx(best[summary["best_trial"]])
        assert summary["search_val_dice"] == pytest.approx(max(best.values()))
        assert Path(summary["export"]) == each.folder / "export"
        assert json.loads((each.folder / "export" / "recipe.json").read_text()) == summary["best_params"]
        assert summary["export_val_dice"] == pytest.approx(summary["val_dice"], abs=0.001)
        openings = json.loads((each.folder / "test_openings.json").read_text())
        assert len(openings) == 1 and summary["best_trial"] in openings[0]["candidate"]
        parent = parents[summary["parent_run_id"]].data
        assert parent.tags["best_trial"] == summary["best_trial"]
        for metric, name in (("best_val_dice", "search_val_dice"), ("test_dice", "test_dice")):
            assert parent.metrics[metric] == pytest.approx(summary[name])
    bars = [(each.summary["zeroshot_val_dice"], each.summary["data_fingerprint"]) for each in pair]
    assert bars[0] == bars[1]


def test_each_screen_tells_of_its_own_search(pair: list[Ended]) -> None:
    for each, other in zip(pair, reversed(pair), strict=True):
        assert "MLflow: " not in each.screen and "Traceback" not in each.screen
        assert each.folder.name in each.screen and other.folder.name not in each.screen


def test_the_recorded_experiments_are_listed_once(pair: list[Ended]) -> None:
    recorded = Counter(run.info.run_name for run in read_runs(pair[0].folder.parents[1], "recorded"))
    assert recorded and set(recorded.values()) == {1}


def test_of_two_searches_of_one_name_one_runs_and_the_other_says_why_not(ended: list[Ended], pair: list[Ended]) -> None:
    loser, (winner,) = ended[2], [each for each in pair if each.folder.name == "south"]
    folder = winner.folder.parents[1]
    said = re.sub(r"\s+", " ", loser.screen.partition("error:")[2])
    assert str(winner.folder) in said and "exists" in said, loser.screen
    assert "Traceback" not in loser.screen
    assert (winner.record.context.seed, winner.summary["seed"]) == (winner.seed, winner.seed)
    assert (winner.folder / "export" / "sam2.pt").is_file() and (winner.folder / "report.html").is_file()
    same = [run for run in read_runs(folder, "lora") if run.info.run_name == "south"]
    assert [(run.info.run_id, run.info.status) for run in same] == [(winner.summary["parent_run_id"], "FINISHED")]
    assert not list((folder / "runs" / ".cache").glob(".*"))
