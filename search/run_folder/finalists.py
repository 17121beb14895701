"""The finalists of a search: its best configurations and a starting point, trained again with several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from search.errors import SearchError
from search.run_folder.contenders import Contender
from search.run_folder.json_files import find_record, write_record
from search.run_folder.layout import CONFIRMATION_FILE


@dataclass(frozen=True)
class SeedRun:
    """A finalist's configuration trained once more.

    Attributes:
        checkpoint: Folder of its best epoch's checkpoint, absolute; empty where there is none.
        epoch: That epoch, counted from 1.
        val_dice: Dice of that epoch on validation; NaN where it has no checkpoint, and null in the file.
        failure: Why it has no checkpoint; empty where it has.
        by_scale: Dice on validation by the scale of the update; empty where it was not measured.
        value: The search's objective at that epoch; None where that is the Dice.
        value_by_scale: The same by the scale of the update.
    """

    seed: int
    checkpoint: str
    epoch: int
    val_dice: Annotated[float, BeforeValidator(lambda dice: np.nan if dice is None else dice)]
    failure: str = ""
    by_scale: Mapping[float, float] = dataclasses.field(default_factory=dict)
    value: float | None = None
    value_by_scale: Mapping[float, float] = dataclasses.field(default_factory=dict)

    @property
    def score(self) -> float:
        """Value that finalists are compared by."""
        return self.val_dice if self.value is None else self.value

    @property
    def score_by_scale(self) -> Mapping[float, float]:
        """Values that scales are compared by."""
        return self.by_scale if self.value is None else self.value_by_scale


@dataclass(frozen=True)
class Finalist:
    """One of the configurations that a search confirms: its whole recipe, flat, and its trainings, one a seed.

    ``search_dice``, its trial's best Dice on validation, is what made it a finalist, and thus optimistic;
    ``search_value`` is the same by the search's objective, None where that is the Dice. ``starting_point`` is its name,
    empty where the sampler proposed it. ``out`` says why it got no more seeds; empty where it got all.
    """

    trial_id: str
    search_dice: float
    params: Mapping[str, Any]
    runs: tuple[SeedRun, ...]
    search_value: float | None = None
    starting_point: str = ""
    out: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all trainings came to their end: a configuration that fails with some seeds is not chosen."""
        return all(not run.failure for run in self.runs)

    @property
    def can_win(self) -> bool:
        """Whether it was trained with every seed, each to its end."""
        return self.is_complete and not self.out

    @property
    def mean_dice(self) -> float:
        """Mean validation Dice over seeds, each at its best epoch."""
        return float(np.mean([run.val_dice for run in self.runs]))

    @property
    def std_dice(self) -> float:
        """Standard deviation over seeds (n - 1); 0 for a single one."""
        return float(np.std([run.val_dice for run in self.runs], ddof=1)) if len(self.runs) > 1 else 0.0

    @property
    def name(self) -> str:
        """Its trial, with the starting point that this is."""
        return f"trial {self.trial_id}" + f" ({self.starting_point})" * bool(self.starting_point)

    @property
    def search_score(self) -> float:
        """What made it a finalist."""
        return self.search_dice if self.search_value is None else self.search_value

    @property
    def mean_score(self) -> float:
        """Mean of :attr:`SeedRun.score` over seeds."""
        return float(np.mean([run.score for run in self.runs]))

    def average_scales(self) -> dict[float, float]:
        """Returns scale -> mean validation Dice over seeds."""
        return _average([run.by_scale for run in self.runs])

    def average_scores(self) -> dict[float, float]:
        """Returns scale -> mean over seeds of the objective, by default the validation Dice."""
        return _average([run.score_by_scale for run in self.runs])


def _average(curves: Sequence[Mapping[float, float]]) -> dict[float, float]:
    return {scale: float(np.mean([curve[scale] for curve in curves])) for scale in curves[0]}


def choose_finalist(finalists: Sequence[Finalist]) -> Finalist:
    """Returns the finalist with the highest mean over seeds of the search's objective on validation.

    Raises:
        SearchError: If every finalist failed with some seed, with the reasons.
    """
    complete = [finalist for finalist in finalists if finalist.can_win]
    if not complete:
        reasons = {run.failure for finalist in finalists for run in finalist.runs if run.failure}
        raise SearchError(f"no finalist could be trained with every seed: {'; '.join(sorted(reasons))}")
    return max(complete, key=lambda finalist: finalist.mean_score)


def write_finalists(
    folder: Path, finalists: Sequence[Finalist], protocol_id: str, contenders: Sequence[Contender] = ()
) -> None:
    """Writes ``confirmation.json``, whole or not at all: finalists, contenders, and the protocol of their figures."""
    entries = [
        {
            **dataclasses.asdict(finalist),
            "runs": [_to_plain(run) for run in finalist.runs],
            "mean_val_dice": finalist.mean_dice if finalist.is_complete else None,
            "std_val_dice": finalist.std_dice if finalist.is_complete else None,
        }
        for finalist in finalists
    ]
    rivals = [{**dataclasses.asdict(each), "val_dice": each.val_dice} for each in contenders]
    content = {"protocol_id": protocol_id, "finalists": entries, "contenders": rivals}
    write_record(folder / CONFIRMATION_FILE, content)


def _to_plain(run: SeedRun) -> dict[str, Any]:
    # JSON has no NaN, though Python writes and reads one.
    return {**dataclasses.asdict(run), "val_dice": None if np.isnan(run.val_dice) else run.val_dice}


@dataclass(frozen=True)
class Confirmation:
    """What ``confirmation.json`` holds: the finalists, and the models that contended for the export."""

    finalists: tuple[Finalist, ...]
    contenders: tuple[Contender, ...] = ()

    @staticmethod
    def read(folder: Path) -> Confirmation:
        """Reads ``confirmation.json``; nobody is in it where the search has not come that far.

        Raises:
            ConfigError: If it is damaged.
        """
        found = find_record(folder / CONFIRMATION_FILE, Confirmation, unknown="ignore")  # means are computed anew
        return found or Confirmation(())
