"""Folders of searches for reports: one that ended, and its parts for one under way."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from PIL import Image

from search.run_folder.chosen import Chosen
from search.run_folder.contenders import Contender
from search.run_folder.finalists import Finalist, SeedRun, write_finalists
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.space.config import find_space, load_config
from search.space.objective import Objective
from search.study.distributions import to_distributions
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, REASON, STARTING_POINT
from trainables.context import STOPPED_BY
from trainables.files.json_reader import build_record

EVIL = "<script>alert(1)</script> $\\alpha & 'co'"
CLASSES = ("tumor", EVIL)
BY_DICE = Objective()


@pytest.fixture(scope="session")
def begin(make_record: Callable[..., SearchRecord]) -> Callable[..., SearchRecord]:
    """Makes the record of a demo search with a leak, over a shipped space and for an objective."""

    def make(space: str = "lora.yaml", objective: Objective = BY_DICE) -> SearchRecord:
        config = dataclasses.replace(load_config(find_space(space)), objective=objective).to_dict()
        command = ["/somewhere/search/run.py", "--space", "my space.yaml"]
        environment = {"git_commit": "abc", "python": "3.11", "platform": "Linux", "packages": {"torch": "2.9"}}
        changes: dict[str, Any] = {"demo": "demo data (synthetic tissue)", "caveats": [f"leak {EVIL}"]}
        return make_record(config=config, environment={**environment, "command": command}, **changes)

    return make


def add_trials(folder: Path, record: SearchRecord, dice: Sequence[Sequence[float]]) -> None:
    """Adds trials with their curves; those of three epochs are complete, and the last one failed."""
    study = make_study_file(folder, record).open()
    is_pair = len(study.directions) > 1
    # Not all parameters of lora.yaml apply in each trial; here each trial shall have them all.
    shipped = load_config(find_space("lora.yaml")).space
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
            trial.set_user_attr(STOPPED_BY, f"rung at epoch {len(curve)} {EVIL}")
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
    left = Finalist("t3", 0.6, {}, (SeedRun(1, "/c", 1, 0.5),), out=f"out after 1 of 2 seeds: {EVIL}")
    contenders = [
        Contender("single", ("trial t1, seed 1, epoch 2",), "c", 1.0, scales),
        Contender("seeds", ("trial t1, seed 1, epoch 2", EVIL), "soups/seeds", 1.0, {1.0: 0.6}),
    ]
    finalists = [Finalist("t1", 0.66, {"adapter.rank": 8}, runs), failed, left]
    write_finalists(folder, finalists, "226c7851", contenders)
    figures: dict[str, Any] = {"val_dice": 0.65, "val_dice_at_1": 0.65, "seeds_mean": 0.64, "seeds_std": 0.01}
    choice = {"trial_id": "t1", "seed": 1, "checkpoint": "c", "epoch": 2, "scale": 1.0, "protocol_id": "226c7851"}
    Chosen(**choice, **figures, n_seeds=2, n_finalists=2, refit=False, params={}).write(folder)


@pytest.fixture(scope="session")
def make(begin: Callable[..., SearchRecord]) -> SimpleNamespace:
    """The writers of a search's folder and of its parts."""

    def finish(folder: Path, summary: Summary, objective: Objective = BY_DICE) -> None:
        """Writes the folder of a search that came to its end."""
        folder.mkdir()
        record = begin(objective=objective)
        record.write(folder)
        whole = [[0.6, 0.66, 0.5], [0.6, 0.5, 0.4], *([0.5, 0.5, n / 10] for n in range(3))]
        add_trials(folder, record, [[0.4], *whole, *([n / 100] for n in range(30, 36)), []])
        write_pairs(folder / "scores_val_zeroshot.csv", ["zeroshot"])
        write_pairs(folder / "scores_test.csv", ["winner", "zeroshot"])
        write_chosen(folder)
        content = {**summary.to_dict(), "best_trial": "t1", "objective": list(objective.metrics)}
        build_record(content, Summary).write(folder)
        (folder / "overlays").mkdir()
        Image.new("RGB", (60, 20), "purple").save(folder / "overlays" / "r&1.png")

    return SimpleNamespace(record=begin, trials=add_trials, pairs=write_pairs, chosen=write_chosen, finished=finish)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, summary: Summary, make: SimpleNamespace) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "first"
    make.finished(folder, summary)
    return folder


@pytest.fixture
def finished(tmp_path: Path, finished_once: Path) -> Path:
    """A copy of the folder of a search that came to its end."""
    return Path(shutil.copytree(finished_once, tmp_path / "first"))
