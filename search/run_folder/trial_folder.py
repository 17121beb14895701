"""The folder of a trial: its name, epochs, checkpoints and failure."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from search.run_folder.json_files import read_record
from search.space.objective import DICE, PARAMETERS
from trainables.context import DIVERGED, PAIRS, RECIPE_FILE, UPDATE_SCALE

# In each trial's folder: a line of JSON an epoch.
RESULT_FILE = "result.json"
_FOLDER_PREFIX = "trial-"
_CHECKPOINT_NAME = re.compile("checkpoint_([0-9]+)")  # as Ray numbers them, from 0

PARAMS_FILE = "params.json"
# A line of JSON an epoch with the Dice of each (region, class) pair, in a search that races.
PAIRS_FILE = "pairs.json"
FAILURE_FILE = "failure.txt"


@dataclass(frozen=True)
class ListedTrial:
    """A trial of a known configuration that was begun; its folder has ``result.json`` and checkpoints.

    ``failure`` says why it failed, if it did. A trial that ``diverged`` ended itself for a loss that was not finite:
    trained again, it would end there again.
    """

    config: dict[str, Any]
    folder: Path
    failure: str
    diverged: bool = False


def read_listed(folder: Path) -> list[ListedTrial]:
    """Returns the trials of a folder that were begun, whether they ended or not.

    Raises:
        ConfigError: If a trial's ``params.json`` is damaged.
    """
    trials = []
    for path in list_trial_folders(folder):
        if (path / PARAMS_FILE).is_file():
            fix = f"remove the folder {path.name}: its configuration is trained again"
            config, rows = read_record(path / PARAMS_FILE, dict[str, Any], fix), read_epochs(path)
            diverged = bool(rows) and bool(rows[max(rows)].get(DIVERGED))
            failure = read_failure(path) or "the loss was not finite" * diverged
            trials.append(ListedTrial(config, path, failure, diverged))
    return trials


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


class BestEpoch(NamedTuple):
    """The best epoch of a trial among those whose checkpoint is left, and its figures.

    ``path`` is the checkpoint's folder, ``epoch`` counts from 1, ``value`` is the objective, ``scale`` that of the
    update at which the figures were taken, and ``trained_parameters`` is NaN where the trial did not report them.
    """

    path: Path
    epoch: int
    val_dice: float
    value: float
    scale: float
    trained_parameters: float


def read_best_epoch(folder: Path, metric: str = DICE) -> BestEpoch | None:
    """Returns the best epoch of a trial's folder by a metric, the first among equals.

    None where no checkpoint is left.
    """
    curve = {epoch: row for epoch, row in read_epochs(folder).items() if math.isfinite(row.get(metric, math.nan))}
    found = list_checkpoint_folders(folder)
    whole = {epoch: path for epoch, path in found if epoch in curve and (path / RECIPE_FILE).is_file()}
    if not whole:
        return None
    epoch = max(whole, key=lambda each: curve[each][metric])  # the first of equals, as the oldest comes first
    row = curve[epoch]
    return BestEpoch(
        path=whole[epoch],
        epoch=epoch,
        val_dice=row.get(DICE, math.nan),
        value=row[metric],
        scale=row.get(UPDATE_SCALE, 1.0),
        trained_parameters=row.get(PARAMETERS, math.nan),
    )


def read_epochs(folder: Path) -> dict[int, dict[str, float]]:
    """Returns what a trial reported, by epoch: its numbers by their names, finite or not; see :func:`read_reports`."""
    return {
        epoch: {name: float(value) for name, value in report.items() if isinstance(value, (int, float))}
        for epoch, report in read_reports(folder).items()
    }


def read_pairs(folder: Path) -> dict[int, list[float]]:
    """Returns the Dice of a trial's (region, class) pairs by epoch; nothing where the search does not race."""
    return {epoch: row.get(PAIRS, []) for epoch, row in read_reports(folder, PAIRS_FILE).items()}


def read_reports(folder: Path, name: str = RESULT_FILE) -> dict[int, dict[str, Any]]:
    """Returns what a trial reported, by epoch: numbers, truth values and texts by their names.

    A line that a kill tore, or that is joined to a torn one, is skipped; of an epoch that was reported twice the last
    report counts.
    """
    found: dict[int, dict[str, Any]] = {}
    path = folder / name
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


def list_checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Returns epoch and folder of all checkpoints of a trial, whole or not, the oldest first; no copies of them."""
    found = [(find_epoch(path.name), path) for path in folder.glob("checkpoint_*") if path.is_dir()]
    return sorted((epoch, path) for epoch, path in found if epoch)


def find_epoch(name: str) -> int:
    """Returns the epoch, counted from 1, of a checkpoint's folder by its name; 0 for any other name."""
    match = _CHECKPOINT_NAME.fullmatch(name)
    return int(match[1]) + 1 if match else 0


def read_failure(folder: Path) -> str:
    """Returns why the trial of a folder failed; empty where it did not."""
    path = folder / FAILURE_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
