"""How much of the time of the slots, in which trials run, was arithmetic, and how much arithmetic was spared."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.run_folder.trial_folder import list_trial_folders, read_epochs


@dataclass
class SlotTime:
    """Seconds of all slots of this process's runs of Ray Tune, and those of training and validation in them.

    A slot's time runs from the start of a run to its end, whether a trial is in it or not.
    """

    total_s: float = 0.0
    arithmetic_s: float = 0.0
    _reused: list[float] = field(default_factory=list)

    def add(self, trials_folder: Path, n_slots: int, since: float) -> None:
        """Adds a run that ends now, of a number of slots, with the trials of a folder; since is a Unix time."""
        self.total_s += n_slots * (time.time() - since)
        rows = [row for folder in list_trial_folders(trials_folder) for row in read_epochs(folder).values()]
        # Earlier epochs are those of a process before a resume.
        own = [row for row in rows if row.get("timestamp", 0.0) >= since]
        self.arithmetic_s += sum(map(count_arithmetic, own))
        self._reused += [row["prefix_reused"] for row in own if "prefix_reused" in row]

    @property
    def arithmetic_share(self) -> float | None:
        """The share of arithmetic, in [0, 1]; None if no trial has run."""
        return self.arithmetic_s / self.total_s if self.total_s and self.arithmetic_s else None

    @property
    def prefix_reused(self) -> float | None:
        """Share of the encoder's blocks that were read rather than computed, in [0, 1]; None if no trial has run."""
        return statistics.fmean(self._reused) if self._reused else None


def count_arithmetic(epoch: Mapping[str, float]) -> float:
    """Returns the seconds in which an epoch trained, and did not wait for data, and validated."""
    trained = epoch.get("seconds/train", 0.0) * (1 - epoch.get("data_wait_fraction", 0.0))
    return trained + epoch.get("seconds/validate", 0.0)
