"""What a search that trains nothing has found: zero-shot's figures, each under a protocol of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search.damage import read_record
from search.protocol_space import PROTOCOLS_DIFFER
from search.results import locate_trial, read_reports
from search.sampler import RAY_TRIAL_ID, STARTING_POINT
from trainables.whole_file import write_whole

PROTOCOLS_FILE = "protocols.json"


@dataclass(frozen=True)
class ProtocolRow:
    """Zero-shot under one protocol, on validation.

    Attributes:
        trial_id: Ray's id of the trial.
        name: Of the starting point, or ``trial`` and its number.
        protocol: Name of the protocol.
        protocol_id: Its id.
        dice: In [0, 1].
        iou: In [0, 1].
        floor: Dice of the filled prompt boxes.
        ceiling: The best Dice within the prompts.
    """

    trial_id: str
    name: str
    protocol: str
    protocol_id: str
    dice: float
    iou: float
    floor: float
    ceiling: float


@dataclass(frozen=True)
class ProtocolTable:
    """``protocols.json``.

    Attributes:
        search_id: Name of the search.
        demo: What of it is a demo; empty for real data and model.
        data_fingerprint: Of the data set.
        seed: Of the search.
        parent_run_id: The search's run in MLflow.
        caveats: What a reader must know; first of all that these rows are no ranking.
        rows: One a trial, in the order of the trials.
    """

    search_id: str
    demo: str
    data_fingerprint: str
    seed: int
    parent_run_id: str
    caveats: tuple[str, ...]
    rows: tuple[ProtocolRow, ...]

    def write(self, folder: Path) -> None:
        """Writes ``protocols.json``, whole or not at all."""
        write_whole(folder / PROTOCOLS_FILE, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> ProtocolTable | None:
        """Reads ``protocols.json``; None where the search has not come that far.

        Raises:
            ConfigError: If it is damaged.
        """

        def make(content: Any) -> ProtocolTable:
            rows = tuple(ProtocolRow(**row) for row in content["rows"])
            return ProtocolTable(**{**content, "rows": rows, "caveats": tuple(content["caveats"])})

        return read_record(folder / PROTOCOLS_FILE, make)

    def to_lines(self) -> list[str]:
        """Returns what the screen says at the end."""
        width = max([len(row.name) for row in self.rows] + [8])
        lines = [
            f"  {row.name:<{width}}  Dice {row.dice:.3f}  IoU {row.iou:.3f}  floor {row.floor:.3f}  "
            f"ceiling {row.ceiling:.3f}  [{row.protocol_id}] {row.protocol}"
            for row in self.rows
        ]
        head = f"{self.search_id} - {self.demo or 'real data and model'} - zero-shot on validation:"
        facts = f"  data {self.data_fingerprint}, seed {self.seed}; test was not opened"
        return [head, *lines, facts, *(f"  CAVEAT: {caveat}" for caveat in self.caveats)]


def read_rows(trials: Sequence[FrozenTrial], trials_folder: Path) -> tuple[ProtocolRow, ...]:
    """Reads what each trial reported; trials without a result are left out."""
    rows = []
    for trial in trials:
        reports = read_reports(locate_trial(trials_folder, str(trial.user_attrs.get(RAY_TRIAL_ID))))
        if not reports:
            continue
        result = reports[min(reports)]
        rows.append(
            ProtocolRow(
                trial_id=trial.user_attrs[RAY_TRIAL_ID],
                name=trial.user_attrs.get(STARTING_POINT, f"trial {trial.number}"),
                protocol=result["protocol"],
                protocol_id=result["protocol_id"],
                dice=result["val_dice"],
                iou=result["val_iou"],
                floor=result["val_floor"],
                ceiling=result["val_ceiling"],
            )
        )
    return tuple(rows)


def list_caveats(others: Sequence[str]) -> tuple[str, ...]:
    """Returns the caveats of such a search."""
    return (PROTOCOLS_DIFFER, *others)
