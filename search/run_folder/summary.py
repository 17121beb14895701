"""The outcome of a search in one file and a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.command_line.numbers import format_seconds
from search.run_folder.json_files import find_record, read_record, write_record
from search.run_folder.layout import SUMMARY_FILE
from search.space.objective import DICE, Objective
from search.space.recorded_experiments import RECORDED_BAR
from trainables.protocol.spec import PROTOCOLS


@dataclass(frozen=True)
class _Named:
    """What is needed of a summary that was put aside, perhaps by an older version."""

    best_trial: str


@dataclass(frozen=True)
class Summary:
    """``summary.json``; scripts may rely on its keys.

    Attributes:
        search_id: Name of the search.
        demo: What of it is a demo; empty for real data and model.
        trials: Number of trials by state: complete, stopped, failed.
        best_trial: Ray's id of the trial whose configuration was chosen.
        best_params: Its whole recipe, flat.
        best_epoch: The exported epoch, counted from 1.
        best_seed: The exported training's seed.
        best_scale: What the fine-tune's change of the weights is multiplied by; 0 is zero-shot.
        n_finalists: Configurations that were trained again with several seeds; 0 where none was.
        seeds: With how many.
        seeds_mean: Mean over seeds of the chosen configuration's validation Dice, at scale 1.
        seeds_std: Its standard deviation.
        search_val_dice: Best validation Dice of the search's trials: of many, so optimistic.
        val_dice: The chosen model's Dice on validation, at its scale; cross-validated where there are folds.
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
        wall_seconds: Of the process that came to the search's end; those of earlier ones, before a resume, are not in
            it.
        caveats: What a reader of the figures must know: an allowed leak, a test set opened again.
        test_openings: How often the test set was opened.
        test_opening: Which of these looks the test figures come from, counted from 1.
        naming: Figures of naming the zero-shot masks, such as ``val_naming_clip_accuracy``.
        objective: What was optimized, one figure or two; the verdict is one of Dice in any case.
        objective_value: The first of them, of the chosen model on validation; None where that is the Dice.
        zeroshot_objective_value: The same of zero-shot.
    """

    search_id: str
    demo: str
    trials: dict[str, int]
    best_trial: str
    best_params: dict[str, Any]
    best_epoch: int
    best_seed: int
    best_scale: float
    n_finalists: int
    seeds: int
    seeds_mean: float
    seeds_std: float
    search_val_dice: float
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
    caveats: list[str] = field(default_factory=list)
    test_openings: int = 1
    test_opening: int = 1
    naming: dict[str, float] = field(default_factory=dict)
    objective: list[str] = field(default_factory=lambda: [DICE])
    objective_value: float | None = None
    zeroshot_objective_value: float | None = None

    def write(self, folder: Path) -> None:
        """Writes ``summary.json``, whole or not at all."""
        write_record(folder / SUMMARY_FILE, self)

    @staticmethod
    def read(folder: Path) -> Summary | None:
        """Reads ``summary.json``; None where the search has not come that far.

        Raises:
            ConfigError: If it is damaged.
        """
        return find_record(folder / SUMMARY_FILE, Summary)

    @staticmethod
    def list_former_winners(folder: Path) -> list[str]:
        """Returns the trials that were chosen at earlier ends of the search, by the summaries that were put aside.

        Raises:
            ConfigError: If one of these summaries is damaged.
        """
        paths = sorted(folder.glob("summary-*.json"))
        return [read_record(path, _Named, unknown="ignore").best_trial for path in paths]

    def to_metrics(self) -> dict[str, float]:
        """Returns the figures for MLflow's parent run."""
        return {
            "best_val_dice": self.search_val_dice,
            "chosen_val_dice": self.val_dice,
            "chosen_scale": self.best_scale,
            "chosen_seeds_mean": self.seeds_mean,
            "chosen_seeds_std": self.seeds_std,
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
            f"  validation: winner {self.val_dice:.3f}, zero-shot {self.zeroshot_val_dice:.3f} ({gain:+.3f}); "
            f"{self._floor_words} {self.val_floor:.3f}, ceiling {self.val_ceiling:.3f}",
            *(f"  {line}" for line in self.describe_choice()),
            f"  test, {self._describe_opening()}: winner {self.test_dice:.3f}, zero-shot {self.zeroshot_test_dice:.3f} "
            f"({test_gain:+.3f})",
            f"  verdict on test: zero-shot is {self.verdict.upper()} ({reason})",
            f"  all Dice under protocol {self.protocol} [{self.protocol_id}], data {self.data_fingerprint}, "
            f"seed {self.seed}",
        ]
        if self.val_dice < self.val_floor:
            adds = "a constant answer is better here" if self._is_auto else "it adds nothing to its prompt here"
            lines.append(f"  the winner is below the floor, {self._floor_words}: {adds}")
        if self._is_auto:
            lines.append("  zero-shot SAM2 knows no classes: its figures are those of untrained class prompts")
        if not self.bar_recorded_comparable:
            lines.append(
                f"  the recorded bar {self.bar_recorded} was measured elsewhere: "
                "SAM2.1 Hiera-L on the BCSS test set"
            )
        else:
            lines.append(f"  the recorded bar on the same test set: {self.bar_recorded}")
        return [*lines, *(f"  CAVEAT: {caveat}" for caveat in self.caveats)]

    def describe_choice(self) -> list[str]:
        """Returns what was optimized, where that is not the Dice, and which model was scored on test and exported."""
        return [*self._describe_objective(), f"winner: {self._describe_winner()}"]

    def _describe_objective(self) -> list[str]:
        objective = Objective.from_plain(self.objective)
        if objective.is_dice:
            return []
        told = f"optimized: {objective.describe()}"
        if self.objective_value is not None and self.zeroshot_objective_value is not None:
            told += f": winner {self.objective_value:.3f}, zero-shot {self.zeroshot_objective_value:.3f}"
        return [f"{told}; the verdict is one of Dice"]

    @property
    def _is_auto(self) -> bool:
        return self.protocol in PROTOCOLS and PROTOCOLS[self.protocol].is_auto

    @property
    def _floor_words(self) -> str:
        return "one class everywhere" if self._is_auto else "filled box"

    def _describe_opening(self) -> str:
        return "opened once" if self.test_openings == 1 else f"opened {self.test_openings} times"

    def _describe_winner(self) -> str:
        """Says which model it is that was scored on test and exported."""
        seeds = (
            f"the best of {_count(self.n_finalists, 'configuration')} over {_count(self.seeds, 'seed')} "
            f"({self.seeds_mean:.3f} +/- {self.seeds_std:.3f}, {self.search_val_dice:.3f} at best in the search)"
            if self.n_finalists
            else "the best of the search, not confirmed with other seeds"
        )
        scale = {0.0: "0, which is zero-shot itself", 1.0: "1, as trained"}.get(
            self.best_scale, f"{self.best_scale:g}"
        )
        return f"trial {self.best_trial}, {seeds}; seed {self.best_seed}, epoch {self.best_epoch}, scale {scale}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
