"""The map from Ray's trials to MLflow's runs, kept in the search's folder so that a resume finds the runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from search.errors import ConfigError
from search.run_folder.json_files import read_record
from trainables.files.whole_file import write_whole

TRIAL_ID_TAG = "ray_trial_id"

logger = logging.getLogger(__name__)


@dataclass
class TrialRun:
    """What is known of one trial's run, kept on disk.

    Attributes:
        run_id: MLflow's run id; None until MLflow could be reached.
        last_step: The last epoch logged; 0 before the first.
        best_val_dice: The highest validation Dice so far in [0, 1].
        closed: Whether the run has been given its final status.
        counted: Whether the parent run has counted it among the trials ended; stays so after a reopening.
    """

    run_id: str | None = None
    last_step: int = 0
    best_val_dice: float | None = None
    closed: bool = False
    counted: bool = False


def read_trial_runs(path: Path) -> dict[str, TrialRun]:
    """Returns the runs by Ray's trial id; none where there is no file yet, or a damaged one, which is told in the log.

    MLflow has the runs too, each with its trial's id as a tag, by which they are found again.
    """
    if not path.exists():
        return {}
    try:
        return read_record(path, dict[str, TrialRun], "the trials' runs are looked for in MLflow")
    except ConfigError as error:
        logger.warning("%s", error)
        return {}


def write_trial_runs(path: Path, runs: Mapping[str, TrialRun]) -> None:
    """Writes the map whole or not at all.

    Raises:
        OSError: If the folder cannot be written.
    """
    entries = {trial_id: asdict(run) for trial_id, run in runs.items()}
    write_whole(path, json.dumps(entries, indent=1))
