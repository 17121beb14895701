"""Writes each trial's configuration and epochs to files in its folder, before the search goes on.

Tune's own logger writes below its session's folder and copies from there every now and then: a kill would lose the
last epochs.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from search.cluster.failures import describe_failure, is_made_anew
from search.run_folder.trial_folder import FAILURE_FILE, PAIRS_FILE, PARAMS_FILE, RESULT_FILE, locate_trial
from search.tuning.reasons import find_reason
from trainables.context import PAIRS
from trainables.files.whole_file import cut_torn_line, write_whole


class EpochLog(Callback):
    """Writes ``params.json``, a line of ``result.json`` an epoch, and ``failure.txt`` where a trial failed for good."""

    def __init__(self, folder: Path, keeps_pairs: bool = False) -> None:
        """Takes the folder of all trials, in which each has a folder named after its id.

        With ``keeps_pairs`` the Dice of each pair is kept too, in ``pairs.json``.
        """
        self._folder, self._keeps_pairs = folder.absolute(), keeps_pairs

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Writes the configuration, and cuts off an epoch that an earlier start wrote half."""
        folder = self._locate(trial)
        folder.mkdir(parents=True, exist_ok=True)
        _write_params(folder, trial)
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        for name in (RESULT_FILE, PAIRS_FILE):
            cut_torn_line(folder / name)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Adds a line with the epoch's numbers and words, and the reason where a rule ends the trial there."""
        folder = self._locate(trial)
        if self._keeps_pairs and PAIRS in result:
            pairs = {"training_iteration": result["training_iteration"], PAIRS: list(result[PAIRS])}
            with (folder / PAIRS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(pairs) + "\n")
        with (folder / RESULT_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**pick_plain(result), **find_reason(trial)}) + "\n")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Writes why the trial failed, unless it is made anew; and its configuration, where it never started."""
        if is_made_anew(trial):
            return
        folder = self._locate(trial)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PARAMS_FILE).is_file():
            _write_params(folder, trial)
        write_whole(folder / FAILURE_FILE, describe_failure(trial) + "\n")

    def _locate(self, trial: Any) -> Path:
        return locate_trial(self._folder, trial.trial_id)


def _write_params(folder: Path, trial: Any) -> None:
    write_whole(folder / PARAMS_FILE, json.dumps(dict(trial.config), indent=1))


def pick_plain(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers (also NaN and infinity), truth values and texts of a result."""
    plain: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, (bool, str, int)):
            plain[name] = value
        elif hasattr(value, "__float__"):
            number = float(value)
            plain[name] = int(number) if math.isfinite(number) and hasattr(value, "__index__") else number
    return plain
