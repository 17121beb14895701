"""The outcome of a search in one file and a few lines."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.bar import RECORDED_BAR
from search.progress import format_seconds

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """``summary.json``; scripts may rely on its keys.

    Attributes:
        search_id: Name of the search.
        demo: What of it is a demo; empty for real data and model.
        trials: Number of trials by state: complete, stopped, failed.
        best_trial: Ray's id of the winner.
        best_params: The winner's whole recipe, flat.
        best_epoch: Its best epoch, counted from 1.
        val_dice: The winner's Dice on validation.
        zeroshot_val_dice: Zero-shot's, by the same evaluator and protocol.
        val_floor: Dice of the filled prompt boxes on validation.
        val_ceiling: Dice that no mask inside the prompts can exceed.
        test_dice: The winner's Dice on test.
        zeroshot_test_dice: Zero-shot's.
        verdict: ``beaten``, ``not beaten`` or ``undecided``, on test.
        bar_recorded: The recorded figure, on the BCSS test set.
        bar_recorded_comparable: Whether the test figures stand on the bar's data, model and protocol.
        protocol: Name of the protocol of every figure here but the recorded one.
        protocol_id: Its id.
        data_fingerprint: Of the data set.
        seed: Of the search.
        parent_run_id: The search's run in MLflow.
        export: Folder of the exported winner; empty until it has been exported.
        export_val_dice: The export's Dice on validation by stock SAM2ImagePredictor.
        wall_seconds: From the start of the search to its end.
    """

    search_id: str
    demo: str
    trials: dict[str, int]
    best_trial: str
    best_params: dict[str, Any]
    best_epoch: int
    val_dice: float
    zeroshot_val_dice: float
    val_floor: float
    val_ceiling: float
    test_dice: float
    zeroshot_test_dice: float
    verdict: str
    protocol: str
    protocol_id: str
    data_fingerprint: str
    seed: int
    parent_run_id: str
    wall_seconds: float
    bar_recorded_comparable: bool
    bar_recorded: float = RECORDED_BAR.overall_dice or 0.0
    export: str = ""
    export_val_dice: float | None = None

    def write(self, folder: Path) -> None:
        """Writes ``summary.json``, whole or not at all."""
        partial = folder / f"{SUMMARY_FILE}.partial"
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        partial.replace(folder / SUMMARY_FILE)

    @staticmethod
    def read(folder: Path) -> Summary | None:
        """Reads ``summary.json``; None where the search has not come that far."""
        path = folder / SUMMARY_FILE
        return Summary(**json.loads(path.read_text())) if path.is_file() else None

    def to_metrics(self) -> dict[str, float]:
        """Returns the figures for MLflow's parent run."""
        return {
            "best_val_dice": self.val_dice,
            "bar_zeroshot": self.zeroshot_val_dice,
            "dice_minus_zeroshot": self.val_dice - self.zeroshot_val_dice,
            "bar_recorded": self.bar_recorded,
            "test_dice": self.test_dice,
            "zeroshot_test_dice": self.zeroshot_test_dice,
            "wall_seconds": self.wall_seconds,
        }

    def to_lines(self, reason: str) -> list[str]:
        """Returns what the screen says at the end.

        Args:
            reason: Why the verdict is what it is.
        """
        trials = ", ".join(f"{count} {state}" for state, count in self.trials.items())
        gain, test_gain = self.val_dice - self.zeroshot_val_dice, self.test_dice - self.zeroshot_test_dice
        lines = [
            f"{self.search_id} - {self.demo or 'real data and model'} - {trials} trials "
            f"in {format_seconds(self.wall_seconds)}",
            f"  validation: best trial {self.val_dice:.3f} at epoch {self.best_epoch}, zero-shot "
            f"{self.zeroshot_val_dice:.3f} ({gain:+.3f}); filled box {self.val_floor:.3f}, "
            f"ceiling {self.val_ceiling:.3f}",
            f"  test, opened once: winner {self.test_dice:.3f}, zero-shot {self.zeroshot_test_dice:.3f} "
            f"({test_gain:+.3f})",
            f"  verdict on test: zero-shot is {self.verdict.upper()} ({reason})",
            f"  all Dice under protocol {self.protocol} [{self.protocol_id}], data {self.data_fingerprint}, "
            f"seed {self.seed}",
        ]
        if self.val_dice < self.val_floor:
            lines.append("  the best trial is below the filled prompt box: it adds nothing to its prompt here")
        if not self.bar_recorded_comparable:
            lines.append(
                f"  the recorded bar {self.bar_recorded} was measured elsewhere: "
                "SAM2.1 Hiera-L on the BCSS test set"
            )
        else:
            lines.append(f"  the recorded bar on the same test set: {self.bar_recorded}")
        return lines
