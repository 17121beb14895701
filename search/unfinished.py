"""The trials that a search which stopped left behind: from which checkpoint each of them can go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.epoch_log import PARAMS_FILE
from search.results import list_checkpoints, locate_trial, read_epochs
from search.sampler import RAY_TRIAL_ID, read_curve
from trainables.checkpoint_files import is_whole

Row = Mapping[str, float]


@dataclass(frozen=True)
class UnfinishedTrial:
    """A trial that goes on.

    Attributes:
        trial_id: Ray's id of the trial, which it keeps.
        kept: Its whole checkpoints with what was reported at their epochs, the oldest first; it goes on from the
            last one, or from its start where there is none.
        last_epoch: The epoch after which it ends, where that has been decided before the stop: the study has its end,
            but the checkpoint of its last epoch was not written. None where the scheduler decides.
    """

    trial_id: str
    kept: tuple[tuple[Path, Row], ...]
    last_epoch: int | None = None

    @property
    def epoch(self) -> int:
        """The epoch after which it goes on; 0 for a start from scratch."""
        return int(self.kept[-1][1]["training_iteration"]) if self.kept else 0


def list_unfinished(trials: Sequence[FrozenTrial], trials_folder: Path) -> list[UnfinishedTrial]:
    """Returns the study's trials that go on, in their order; clears away checkpoints that are not whole."""
    unfinished = []
    for trial in trials:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is None or trial.state in (TrialState.WAITING, TrialState.FAIL):
            continue
        kept = clear_checkpoints(locate_trial(trials_folder, trial_id))
        if trial.state == TrialState.RUNNING:
            unfinished.append(UnfinishedTrial(trial_id, kept))
            continue
        last_epoch = max(read_curve(trial), default=0)
        if UnfinishedTrial(trial_id, kept).epoch < last_epoch:
            unfinished.append(UnfinishedTrial(trial_id, kept, last_epoch))
    return unfinished


def list_unfinished_listed(folder: Path, epochs: int) -> dict[str, tuple[UnfinishedTrial, dict[str, Any]]]:
    """Returns the trials of known configurations that go on, by their id, each with its configuration.

    Args:
        folder: Of all these trials.
        epochs: After how many a trial is finished.
    """
    found = {}
    for path in sorted(folder.glob("trial-*")):
        if not (path / PARAMS_FILE).is_file():
            continue
        kept, rows = clear_checkpoints(path), read_epochs(path)
        trial = UnfinishedTrial(path.name.removeprefix("trial-"), kept)
        if trial.epoch < epochs and not is_diverged(rows):
            found[trial.trial_id] = (trial, json.loads((path / PARAMS_FILE).read_text()))
    return found


def is_diverged(rows: Mapping[int, Row]) -> bool:
    """Whether the last report is of a loss that was not finite: training again would end there again."""
    return bool(rows) and bool(rows[max(rows)].get("diverged"))


def clear_checkpoints(folder: Path) -> tuple[tuple[Path, Row], ...]:
    """Returns a trial's whole checkpoints with their reports, oldest first; deletes what a kill left half done."""
    rows, kept = read_epochs(folder), []
    for epoch, path in list_checkpoints(folder):
        if epoch in rows and is_whole(path):
            kept.append((path, rows[epoch]))
    whole = {path for path, _ in kept}
    for path in folder.glob("checkpoint_*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
    return tuple(kept)
