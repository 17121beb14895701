"""What came out of a search: how its trials ended, the winner, the winner's comparison on test."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from search.damage import tell_damaged_record
from search.errors import ConfigError, SearchError
from search.objective import DICE, PARAMETERS, Objective
from search.sampler import RAY_TRIAL_ID, REASON, STARTING_POINT
from search.scores import pair_scores
from search.study import StudyFile
from search.verdict import Verdict, judge
from trainables.context import RECIPE_FILE
from trainables.errors import Finding
from trainables.protocol import require_same_protocol
from trainables.scores import Scores
from trainables.weight_file import COPY_FIX
from trainables.whole_file import write_whole

STATE_NAMES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "unfinished"}
# In each trial's folder: a line of JSON an epoch.
RESULT_FILE = "result.json"
_FOLDER_PREFIX = "trial-"
_CHECKPOINT_NAME = re.compile("checkpoint_([0-9]+)")  # as Ray numbers them, from 0
_DEFAULT = Objective()
# What the reader of a verdict must know where nothing is prompted.
PAIRS_WITHOUT_PROMPTS = (
    "no prompts: a pair is a class that its image shows; what is seen of a class in an image without it lowers the "
    "overall Dice, and here only the pairs of the classes that those pixels have; zeroshot stands for untrained class "
    "prompts, as zero-shot SAM2 knows no classes"
)


@dataclass(frozen=True)
class Winner:
    """A trial at its best epoch by the search's objective.

    Attributes:
        trial_id: Ray's id of the trial.
        checkpoint: Folder of the checkpoint of its best epoch.
        epoch: That epoch, counted from 1.
        val_dice: Its Dice on validation, in [0, 1].
        params: Its whole recipe, flat.
        value: The objective at that epoch; None where that is the Dice.
        trained_parameters: How many numbers it trains; NaN where it does not tell.
    """

    trial_id: str
    checkpoint: Path
    epoch: int
    val_dice: float
    params: Mapping[str, Any]
    value: float | None = None
    trained_parameters: float = math.nan

    @property
    def score(self) -> float:
        """What trials are ranked by."""
        return self.val_dice if self.value is None else self.value


def name_trial_folder(trial: Any) -> str:
    """Names the folder of a trial of Tune: short and without its parameters, which lie inside."""
    return f"{_FOLDER_PREFIX}{trial.trial_id}"


def locate_trial(trials_folder: Path, trial_id: str) -> Path:
    """Returns a trial's folder; see :func:`name_trial_folder`."""
    return trials_folder / f"{_FOLDER_PREFIX}{trial_id}"


def list_trial_folders(trials_folder: Path) -> list[Path]:
    """Returns the folders of all trials, in the order of their names."""
    return sorted(trials_folder.glob(f"{_FOLDER_PREFIX}*"))


def read_trial_id(folder: Path) -> str:
    """Returns whose folder it is; see :func:`locate_trial`."""
    return folder.name.removeprefix(_FOLDER_PREFIX)


def read_trials(study_file: StudyFile) -> list[optuna.trial.FrozenTrial]:
    """Returns the search's trials as the study has them."""
    return study_file.open().get_trials(deepcopy=False)


def count_states(trials: list[optuna.trial.FrozenTrial]) -> dict[str, int]:
    """Counts trials by how they ended: complete, stopped (early), failed, unfinished."""
    return dict(Counter(name_state(trial) for trial in trials))


def name_state(trial: optuna.trial.FrozenTrial) -> str:
    """Returns how a trial ended, in the user's words: complete, stopped, failed or unfinished."""
    return STATE_NAMES.get(trial.state.name, trial.state.name.lower())


def find_starting_point(study_file: StudyFile, trial_id: str) -> dict[str, str]:
    """Returns the tag that names a trial's starting point; nothing for a sampled one."""
    for trial in read_trials(study_file):
        if trial.user_attrs.get(RAY_TRIAL_ID) == trial_id and STARTING_POINT in trial.user_attrs:
            return {"starting_point": str(trial.user_attrs[STARTING_POINT])}
    return {}


def rank_trials(
    trials: list[optuna.trial.FrozenTrial], trials_folder: Path, objective: Objective = _DEFAULT
) -> list[Winner]:
    """Returns every trial that left a checkpoint, at the best epoch of which one is left, the best first.

    Epochs and trials are compared by the objective; with two of them by the first.

    Raises:
        ConfigError: If the recipe of such a checkpoint is damaged.
    """
    ranked = []
    for trial in trials:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is None:
            continue
        best = read_best_epoch(locate_trial(trials_folder, trial_id), objective.metric)
        if best is not None:
            with tell_damaged_record(best.path / RECIPE_FILE, COPY_FIX):
                params = dict(json.loads((best.path / RECIPE_FILE).read_text()).items())
            value = None if objective.metric == DICE else best.value
            ranked.append(
                Winner(trial_id, best.path, best.epoch, best.val_dice, params, value, best.trained_parameters)
            )
    return sorted(ranked, key=lambda each: -each.score)


def find_winner(
    trials: list[optuna.trial.FrozenTrial], trials_folder: Path, objective: Objective = _DEFAULT
) -> Winner:
    """Returns the best trial.

    Raises:
        SearchError: If no trial left a checkpoint, with the reasons that the trials gave.
    """
    return pick_winner(rank_trials(trials, trials_folder, objective), trials, trials_folder)


def pick_winner(
    ranked: Sequence[Winner], trials: Sequence[optuna.trial.FrozenTrial], trials_folder: Path
) -> Winner:
    """Returns the first of the trials that :func:`rank_trials` has ranked.

    Raises:
        SearchError: As :func:`find_winner`.
    """
    if ranked:
        return ranked[0]
    reasons = Counter(str(trial.user_attrs.get(REASON, name_state(trial))) for trial in trials)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    raise SearchError(f"no trial left a checkpoint in {trials_folder} ({told or 'no trial was started'})")


class BestEpoch(NamedTuple):
    """The best epoch of which a trial kept the checkpoint, and what was measured there.

    ``path`` is the checkpoint's folder, ``epoch`` counts from 1, ``value`` is the objective, and
    ``trained_parameters`` is NaN where the trial did not tell them.
    """

    path: Path
    epoch: int
    val_dice: float
    value: float
    trained_parameters: float


def read_best_epoch(folder: Path, metric: str = DICE) -> BestEpoch | None:
    """Returns the best epoch of a trial's folder by a metric, the first among equals.

    None where no checkpoint is left.
    """
    curve = {epoch: row for epoch, row in read_epochs(folder).items() if math.isfinite(row.get(metric, math.nan))}
    kept = [(curve[epoch][metric], -epoch, path) for epoch, path in list_checkpoints(folder) if epoch in curve]
    if not kept:
        return None
    value, negative_epoch, path = max(kept)
    row = curve[-negative_epoch]
    return BestEpoch(path, -negative_epoch, row.get(DICE, math.nan), value, row.get(PARAMETERS, math.nan))


def read_epochs(folder: Path) -> dict[int, dict[str, float]]:
    """Returns what a trial reported, by epoch: its numbers by their names, finite or not; see :func:`read_reports`."""
    return {
        epoch: {name: float(value) for name, value in report.items() if isinstance(value, (int, float))}
        for epoch, report in read_reports(folder).items()
    }


def read_reports(folder: Path) -> dict[int, dict[str, Any]]:
    """Returns what a trial reported, by epoch: numbers, truth values and texts by their names.

    A line that a kill tore, or that stands behind a torn one, is left out; of an epoch that was reported twice the
    last report counts.
    """
    path = folder / RESULT_FILE
    found: dict[int, dict[str, Any]] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            epoch = int(row["training_iteration"])
        except (ValueError, KeyError, TypeError):
            continue
        found[epoch] = row
    return found


def list_checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yields epoch, counted from 1, and folder of each checkpoint that has its recipe."""
    for epoch, path in list_checkpoint_folders(folder):
        if (path / RECIPE_FILE).is_file():
            yield epoch, path


def list_checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Returns epoch and folder of all checkpoints of a trial, whole or not, the oldest first; no copies of them."""
    found = [(find_epoch(path.name), path) for path in folder.glob("checkpoint_*") if path.is_dir()]
    return sorted((epoch, path) for epoch, path in found if epoch)


def find_epoch(name: str) -> int:
    """Returns the epoch, counted from 1, of a checkpoint's folder by its name; 0 for any other name."""
    match = _CHECKPOINT_NAME.fullmatch(name)
    return int(match[1]) + 1 if match else 0


def judge_on_test(candidate: Scores, baseline: Scores, seed: int) -> Verdict:
    """Compares winner and zero-shot on the same (image, class) pairs.

    Raises:
        ProtocolMismatch: If the two were not scored under one protocol.
    """
    require_same_protocol(candidate.protocol, baseline.protocol)
    pairs = [(pair.file, pair.class_name) for pair in candidate.compared]
    assert pairs == [(pair.file, pair.class_name) for pair in baseline.compared]
    verdict = judge(
        pair_scores(
            [file for file, _ in pairs],
            [name for _, name in pairs],
            [pair.dice for pair in candidate.compared],
            [pair.dice for pair in baseline.compared],
            patient=[pair.patient for pair in candidate.compared],
            names=("winner", "zeroshot"),
        ),
        seed,
    )
    notes = (PAIRS_WITHOUT_PROMPTS,) if candidate.protocol.is_auto else ()
    return dataclasses.replace(verdict, notes=(*verdict.notes, *notes))


def find_trial(ranked: list[Winner], trial_id: str) -> Winner:
    """Returns a trial by its id.

    Raises:
        ConfigError: If none of that id left a checkpoint, with those that did.
    """
    for trial in ranked:
        if trial.trial_id == trial_id:
            return trial
    known = ", ".join(trial.trial_id for trial in ranked) or "none"
    raise ConfigError([Finding(f"--trial {trial_id}", "no such trial left a checkpoint", f"those that did: {known}")])


def write_scores(path: Path, scores: Mapping[str, Scores], marks: Mapping[str, str] | None = None) -> None:
    """Writes one row an (image, class) pair with a Dice column a model: what ``search.verdict`` reads.

    Args:
        path: The file.
        scores: Of the same pairs under one protocol, by the column's name.
        marks: Further columns that say the same in every row.
    """
    marks = marks or {}
    first, compared = next(iter(scores.values())), [each.compared for each in scores.values()]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["file", "class", "patient", "protocol", *scores, "floor", "ceiling", *marks])
    for index, pair in enumerate(first.compared):
        dice = [f"{each[index].dice:.6f}" for each in compared]
        limits = [f"{pair.floor:.6f}", f"{pair.ceiling:.6f}"]
        told = [pair.file, pair.class_name, pair.patient, first.protocol.id, *dice, *limits]
        writer.writerow([*told, *marks.values()])
    write_whole(path, file.getvalue())
