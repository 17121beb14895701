"""The MLflow runs of a search and its trials; a file in the search's folder lets a resume find the trials' again."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from search.errors import ConfigError
from search.run_folder.json_files import read_record
from search.tracking.errors import TrackingError
from search.tracking.tracker import Tracker
from trainables.files.whole_file import write_whole

TRIAL_ID_TAG = "ray_trial_id"
RUN_MAP_FILE = "mlflow_runs.json"

logger = logging.getLogger(__name__)


@dataclass
class TrialRun:
    """What is known of one trial's run, kept on disk: what has reached MLflow, and what waits for it.

    Attributes:
        run_id: MLflow's run id; None until MLflow could be reached.
        last_step: The last epoch; 0 before the first.
        closed: Whether the run has been given its end, which a reopening takes back.
        counted: Whether the parent run counts it among the trials ended; stays so after a reopening.
    """

    run_id: str | None = None
    last_step: int = 0
    best_val_dice: float | None = None
    closed: bool = False
    counted: bool = False


class SearchRuns:
    """Finds a search's run, ``parent``, and its trials' runs, by Ray's trial id."""

    def __init__(self, tracker: Tracker, parent: str, folder: Path) -> None:
        self.tracker, self.parent, self.folder = tracker, parent, folder.absolute()
        self.by_trial = self._read()

    def find(self, trial_id: str | None) -> str:
        """Returns the run id of a trial, by the map or by MLflow; the search's own for None.

        Raises:
            TrackingError: If the trial has no run, or MLflow cannot be asked.
        """
        if trial_id is None:
            return self.parent
        run = self.by_trial.get(trial_id)
        run_id = run.run_id if run and run.run_id else self.search(trial_id)
        if run_id is None:
            raise TrackingError(f"trial {trial_id} has no run")
        return run_id

    def search(self, trial_id: str) -> str | None:
        """Returns the run id that MLflow has for a trial; None where it has none.

        Raises:
            TrackingError: If MLflow cannot be asked.
        """
        return self.tracker.find_child(self.parent, {TRIAL_ID_TAG: trial_id})

    def write(self) -> None:
        """Writes the trials' runs to disk, whole or not at all; logs a warning where that fails."""
        path = self.folder / RUN_MAP_FILE
        # Written often: asdict and indents would take ten times as long over thousands of trials.
        text = json.dumps({trial_id: vars(run) for trial_id, run in self.by_trial.items()})
        try:
            write_whole(path, text)
        except OSError as error:
            logger.warning("could not write %s: %s; a resume may log steps twice", path, error)

    def _read(self) -> dict[str, TrialRun]:
        """Returns the runs by Ray's trial id; none, with a warning in the log, where the file is damaged.

        MLflow has the runs too, each with its trial's id as a tag, by which they are found again.
        """
        path = self.folder / RUN_MAP_FILE
        if not path.exists():
            return {}
        try:
            return read_record(path, dict[str, TrialRun], "the trials' runs are looked for in MLflow")
        except ConfigError as error:
            logger.warning("%s", error)
            return {}
