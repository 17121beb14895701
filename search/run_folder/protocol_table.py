"""Zero-shot under each trial's protocol, in a search that trains nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.run_folder.json_files import find_record, write_record
from search.run_folder.layout import PROTOCOLS_FILE

PROTOCOLS_DIFFER = (
    "nothing is trained: each trial scores zero-shot under a protocol of its own; such numbers show what a prompt "
    "or a clean-up yields, they do not rank models, and none of them is compared with the bar"
)


@dataclass(frozen=True)
class ProtocolRow:
    """Zero-shot under one protocol, on validation; Dice and IoU are in [0, 1].

    The name is that of the starting point, or ``trial`` and its number. The floor is the Dice of the filled prompt
    boxes, the ceiling the best within the prompts.
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
    """``protocols.json``: a row per trial, in their order.

    ``demo`` names the parts that are a demo, and is empty for real data and model. The caveats are what a reader must
    know; first of all that these rows are no ranking.
    """

    search_id: str
    demo: str
    data_fingerprint: str
    seed: int
    parent_run_id: str
    caveats: tuple[str, ...]
    rows: tuple[ProtocolRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what ``protocols.json`` holds."""
        return dataclasses.asdict(self)

    def write(self, folder: Path) -> None:
        """Writes ``protocols.json``, whole or not at all."""
        write_record(folder / PROTOCOLS_FILE, self)

    @staticmethod
    def read(folder: Path) -> ProtocolTable | None:
        """Reads ``protocols.json``; None where the search has not come that far.

        Raises:
            ConfigError: If it is damaged.
        """
        return find_record(folder / PROTOCOLS_FILE, ProtocolTable)

    def to_lines(self) -> list[str]:
        """Returns the lines for the screen."""
        width = max([len(row.name) for row in self.rows] + [8])
        lines = [
            f"  {row.name:<{width}}  Dice {row.dice:.3f}  IoU {row.iou:.3f}  floor {row.floor:.3f}  "
            f"ceiling {row.ceiling:.3f}  [{row.protocol_id}] {row.protocol}"
            for row in self.rows
        ]
        head = f"{self.search_id} - {self.demo or 'real data and model'} - zero-shot on validation:"
        facts = f"  data {self.data_fingerprint}, seed {self.seed}; test was not opened"
        return [head, *lines, facts, *(f"  CAVEAT: {caveat}" for caveat in self.caveats)]
