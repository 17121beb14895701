"""Finds interrupted trials and the checkpoint from which each can resume."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.run_folder.trial_folder import ListedTrial, list_checkpoint_folders, locate_trial, read_epochs, read_reports
from search.study.trial_attributes import RAY_TRIAL_ID, read_curve
from trainables.files.manifest import is_whole

Row = Mapping[str, float]
DONE = "done"  # Tune's: true in the report of a trial's last epoch


@dataclass(frozen=True)
class UnfinishedTrial:
    """A trial that goes on.

    Attributes:
        trial_id: Ray's id of the trial, which it keeps.
        kept: Its whole checkpoints with the reports of their epochs, the oldest first; it goes on from the last one,
            or from its start where there is none.
        last_epoch: The epoch after which it ends, where the study has its end already, but the checkpoint of its last
            epoch was not written. None where the scheduler decides.
    """

    trial_id: str
    kept: tuple[tuple[Path, Row], ...]
    last_epoch: int | None = None

    @property
    def epoch(self) -> int:
        """The epoch after which it goes on; 0 for a start from scratch."""
        return int(self.kept[-1][1]["training_iteration"]) if self.kept else 0


def list_decided(trials: Sequence[FrozenTrial], trials_folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the last reports of trials that had ended before a stop, but run on in the study, by Ray's id.

    Tune reports an epoch, writes its checkpoint, and only then informs the searcher that it was the trial's last one:
    by its scheduler, its number or a loss that is not finite (seen in ray 2.60). A trial that was interrupted in
    between would go on from that checkpoint beyond its end.
    """
    decided = {}
    for trial in trials:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is None or trial.state != TrialState.RUNNING:
            continue
        folder = locate_trial(trials_folder, trial_id)
        reports = read_reports(folder)
        last = max(reports, default=0)
        # Checking whether checkpoints are whole means hashing them: only where it matters.
        if last and reports[last].get(DONE) and UnfinishedTrial(trial_id, clear_checkpoints(folder)).epoch == last:
            decided[trial_id] = reports[last]
    return decided


def list_unfinished(
    trials: Sequence[FrozenTrial], trials_folder: Path, keeps_checkpoints: bool = True
) -> list[UnfinishedTrial]:
    """Returns the study's trials that go on, in their order; clears away checkpoints that are not whole.

    To be called after the reports of :func:`list_decided` have ended theirs. Where nothing is trained, an ended trial
    need not have its last epoch's checkpoint.
    """
    unfinished = []
    for trial in trials:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is None or trial.state in (TrialState.WAITING, TrialState.FAIL):
            continue
        has_ended = trial.state != TrialState.RUNNING
        if has_ended and not keeps_checkpoints:
            continue
        last_epoch = max(read_curve(trial), default=0) if has_ended else None
        found = UnfinishedTrial(trial_id, clear_checkpoints(locate_trial(trials_folder, trial_id)), last_epoch)
        if last_epoch is None or found.epoch < last_epoch:
            unfinished.append(found)
    return unfinished


def list_unfinished_listed(begun: Mapping[str, ListedTrial], epochs: int) -> dict[str, UnfinishedTrial]:
    """Returns those trials of known configurations, by Ray's id, that have not run all epochs."""
    found = {trial_id: UnfinishedTrial(trial_id, clear_checkpoints(each.folder)) for trial_id, each in begun.items()}
    return {name: trial for name, trial in found.items() if trial.epoch < epochs and not begun[name].diverged}


def clear_checkpoints(folder: Path) -> tuple[tuple[Path, Row], ...]:
    """Returns a trial's whole checkpoints with their reports, oldest first; deletes those that a kill left half done.

    Raises:
        CheckpointError: If the manifest of one is of an unknown kind; the checkpoint stays.
    """
    rows, kept = read_epochs(folder), []
    for epoch, path in list_checkpoint_folders(folder):
        if not is_whole(path):
            shutil.rmtree(path, ignore_errors=True)
        elif epoch in rows:
            kept.append((path, rows[epoch]))
    return tuple(kept)
