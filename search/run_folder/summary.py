"""The outcome of a search in one file and a few lines."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import model_validator

from search.command_line.numbers import format_seconds
from search.run_folder.chosen import ChosenModel
from search.run_folder.json_files import find_record, read_record, write_record
from search.run_folder.layout import SUMMARY_FILE
from search.run_folder.origin import Origin
from search.space.objective import DICE, Objective
from search.space.recorded_experiments import RECORDED_BAR
from trainables.errors import count_things
from trainables.protocol.spec import PROTOCOLS

# The keys of summary.json in their order, and the attribute of a summary that each holds.
_ATTRIBUTES = {
    "search_id": "search_id",
    "demo": "origin.demo",
    "trials": "trials",
    "best_trial": "chosen.trial_id",
    "best_params": "chosen.params",
    "best_epoch": "chosen.epoch",
    "best_seed": "chosen.seed",
    "best_scale": "chosen.scale",
    "n_finalists": "chosen.n_finalists",
    "seeds": "chosen.n_seeds",
    "seeds_mean": "chosen.seeds_mean",
    "seeds_std": "chosen.seeds_std",
    "search_val_dice": "search_val_dice",
    "val_dice": "chosen.val_dice",
    "zeroshot_val_dice": "bar.dice",
    "val_floor": "bar.floor",
    "val_ceiling": "bar.ceiling",
    "test_dice": "test.dice",
    "zeroshot_test_dice": "test.zeroshot_dice",
    "verdict": "test.verdict",
    "protocol": "origin.protocol",
    "protocol_id": "origin.protocol_id",
    "data_fingerprint": "origin.data_fingerprint",
    "seed": "origin.seed",
    "parent_run_id": "parent_run_id",
    "wall_seconds": "wall_seconds",
    "bar_recorded_comparable": "bar_recorded_comparable",
    "bar_recorded": "bar_recorded",
    "export": "export",
    "export_val_dice": "export_val_dice",
    "caveats": "origin.caveats",
    "test_openings": "test.openings",
    "test_opening": "test.opening",
    "naming": "naming",
    "objective": "objective",
    "objective_value": "chosen.objective_value",
    "zeroshot_objective_value": "bar.objective_value",
    "soup": "chosen.soup",
    "soup_members": "chosen.soup_members",
    "arithmetic_share": "arithmetic_share",
    "prefix_reused": "prefix_reused",
    "test_floor": "test.floor",
    "starting_point": "chosen.starting_point",
}


@dataclass(frozen=True)
class _FormerSummary:
    """What is needed of a summary that was put aside, perhaps by an older version."""

    best_trial: str


@dataclass(frozen=True)
class Bar:
    """Zero-shot on validation, by the evaluator and protocol of the trials.

    Attributes:
        dice: Dice of zero-shot, in [0, 1].
        floor: Dice of the filled prompt boxes; of a constant answer where nothing is prompted.
        ceiling: Dice that no mask inside the prompts can exceed.
        objective_value: The search's objective for zero-shot.
    """

    dice: float
    floor: float
    ceiling: float
    objective_value: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """The winner's Dice against zero-shot's, both in [0, 1], on test.

    Attributes:
        dice: The winner's Dice on test.
        zeroshot_dice: Zero-shot's Dice on test.
        verdict: ``beaten``, ``not beaten`` or ``undecided``.
        opening: The opening of the test set that the figures are of, counted from 1.
        openings: How often the test set has been opened.
        floor: Dice of the filled prompt boxes on test; None in searches of older versions.
    """

    dice: float
    zeroshot_dice: float
    verdict: str
    opening: int = 1
    openings: int = 1
    floor: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """``summary.json``; scripts may rely on its keys, which are those of ``--json`` too.

    Attributes:
        search_id: Name of the search and its folder.
        parent_run_id: The search's run in MLflow.
        origin: Where its figures come from; data's name and model are not in the file. The caveats include
            a test set that was opened again.
        trials: Number of trials by state: complete, stopped, failed.
        search_val_dice: Best validation Dice of the search's trials: of many, so optimistic.
        chosen: The model that was scored on test and exported.
        wall_seconds: Seconds of the process that came to the search's end, without earlier ones before a resume.
        arithmetic_share: Share of the time of the slots for trials that was training and validation, in [0, 1], in the
            same process; None if it trained nothing.
        prefix_reused: Share of the image encoder's blocks that the trials read rather than computed, in [0, 1], in the
            same process; None if it trained nothing.
        bar_recorded_comparable: Whether the test figures are of the recorded bar's data, model and protocol.
        bar_recorded: The recorded Dice on the BCSS test set.
        objective: What was optimized, one figure or two; the verdict is one of Dice in any case.
        naming: Figures of naming the zero-shot masks, such as ``val_naming_clip_accuracy``.
        export: Folder of the exported winner; empty until it has been exported.
        export_val_dice: Dice of the exported files on validation.
    """

    search_id: str
    parent_run_id: str
    origin: Origin
    trials: dict[str, int]
    search_val_dice: float
    chosen: ChosenModel
    bar: Bar
    test: HeldOut
    wall_seconds: float
    bar_recorded_comparable: bool
    bar_recorded: float = RECORDED_BAR.overall_dice or 0.0
    objective: list[str] = field(default_factory=lambda: [DICE])
    naming: dict[str, float] = field(default_factory=dict)
    export: str = ""
    export_val_dice: float | None = None
    arithmetic_share: float | None = None
    prefix_reused: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns what ``summary.json`` holds, in its order."""
        return {key: attrgetter(attribute)(self) for key, attribute in _ATTRIBUTES.items()}

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, content: Any) -> Any:
        """Returns a summary's parts from what :meth:`to_dict` returns; pydantic then checks each of them."""
        if not isinstance(content, dict):
            return content
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in content.items():
            part, _, name = _ATTRIBUTES.get(str(key), str(key)).rpartition(".")
            parts[part][name] = (
                tuple(value) if key in ("caveats", "soup_members") and isinstance(value, list) else value
            )
        own = parts.pop("", {})
        return {**own, **parts}

    def write(self, folder: Path) -> None:
        """Writes ``summary.json``, whole or not at all."""
        write_record(folder / SUMMARY_FILE, self.to_dict())

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
        return [read_record(path, _FormerSummary, unknown="ignore").best_trial for path in paths]

    def to_metrics(self) -> dict[str, float]:
        """Returns the figures for MLflow's parent run."""
        return {
            "best_val_dice": self.search_val_dice,
            "chosen_val_dice": self.chosen.val_dice,
            "chosen_scale": self.chosen.scale,
            "chosen_seeds_mean": self.chosen.seeds_mean,
            "chosen_seeds_std": self.chosen.seeds_std,
            "bar_zeroshot": self.bar.dice,
            "dice_minus_zeroshot": self.chosen.val_dice - self.bar.dice,
            "bar_recorded": self.bar_recorded,
            "test_dice": self.test.dice,
            "zeroshot_test_dice": self.test.zeroshot_dice,
            "wall_seconds": self.wall_seconds,
        }

    def to_lines(self, reason: str) -> list[str]:
        """Returns what the screen shows at the end, with the reason of the verdict."""
        origin, chosen, bar, test = self.origin, self.chosen, self.bar, self.test
        named = PROTOCOLS.get(origin.protocol.removesuffix("+tiles"))
        is_auto = named is not None and named.is_auto
        floor = "one class everywhere" if is_auto else "filled box"
        trials = ", ".join(f"{count} {state}" for state, count in self.trials.items())
        plural = "s" * (sum(self.trials.values()) != 1)
        opened = "opened once" if test.openings == 1 else f"opened {test.openings} times"
        lines = [
            f"{self.search_id} - {origin.demo or 'real data and model'} - {trials} trial{plural} "
            f"in {format_seconds(self.wall_seconds)}",
            f"  validation: winner {chosen.val_dice:.3f}, zero-shot {bar.dice:.3f} "
            f"({chosen.val_dice - bar.dice:+.3f}); {floor} {bar.floor:.3f}, ceiling {bar.ceiling:.3f}",
            *(f"  {line}" for line in self.describe_choice()),
            f"  test, {opened}: winner {test.dice:.3f}, zero-shot {test.zeroshot_dice:.3f} "
            f"({test.dice - test.zeroshot_dice:+.3f})",
            f"  verdict on test: zero-shot is {test.verdict.upper()} ({reason})",
            f"  all Dice under protocol {origin.protocol} [{origin.protocol_id}], data {origin.data_fingerprint}, "
            f"seed {origin.seed}",
        ]
        for part, dice, bound in (("validation", chosen.val_dice, bar.floor), ("test", test.dice, test.floor)):
            if bound is not None and dice < bound:
                adds = "a constant answer is better there" if is_auto else "it adds nothing to its prompt there"
                lines.append(f"  on {part} the winner is below the floor, {floor} {bound:.3f}: {adds}")
        if is_auto:
            lines.append("  zero-shot SAM2 knows no classes: its figures are those of untrained class prompts")
        lines += [f"  {line}" for line in (self.describe_recorded_bar(), self.describe_time()) if line]
        return [*lines, *(f"  CAVEAT: {caveat}" for caveat in origin.caveats)]

    def describe_recorded_bar(self) -> str:
        """Returns how the recorded bar relates to the figures on test; empty under other protocols than its own."""
        if self.bar_recorded_comparable:
            return f"the recorded bar on the same test set: {self.bar_recorded}"
        if self.origin.protocol != RECORDED_BAR.protocol:
            return ""
        return f"the recorded bar {self.bar_recorded} was measured elsewhere: SAM2.1 Hiera-L on the BCSS test set"

    def describe_time(self) -> str:
        """Returns how much of the time of the slots was arithmetic, and what was spared; empty if not known."""
        if self.arithmetic_share is None:
            return ""
        spared = (
            f"; {self.prefix_reused:.0%} of the image encoder's blocks were read rather than computed"
            if self.prefix_reused
            else ""
        )
        return (
            f"training and validation took {self.arithmetic_share:.0%} of the time of the slots; starts, loading, "
            f"saving and empty slots took the rest{spared}"
        )

    def describe_choice(self) -> list[str]:
        """Returns what was optimized, where that is not the Dice, and which model was scored on test and exported."""
        return [*self._describe_objective(), f"winner: {self._describe_winner()}"]

    def _describe_objective(self) -> list[str]:
        objective, value, bar = Objective.from_plain(self.objective), self.chosen.objective_value, self.bar
        if objective.is_dice:
            return []
        text = f"optimized: {objective.describe()}"
        if value is not None and bar.objective_value is not None:
            text += f": winner {value:.3f}, zero-shot {bar.objective_value:.3f}"
        return [f"{text}; the verdict is one of Dice"]

    def _describe_winner(self) -> str:
        chosen = self.chosen
        seeds = (
            f"the best of {count_things(chosen.n_finalists, 'configuration')} over "
            f"{count_things(chosen.n_seeds, 'seed')} ({chosen.seeds_mean:.3f} +/- {chosen.seeds_std:.3f}, "
            f"{self.search_val_dice:.3f} at best in the search)"
            if chosen.n_finalists
            else "the best of the search, not confirmed with other seeds"
        )
        scale = {0.0: "0, which is zero-shot itself", 1.0: "1, as trained"}.get(chosen.scale, f"{chosen.scale:g}")
        start = f" (starting point {chosen.starting_point})" * bool(chosen.starting_point)
        training = chosen.describe_training() if chosen.soup else f"seed {chosen.seed}, epoch {chosen.epoch}"
        return f"trial {chosen.trial_id}{start}, {seeds}; {training}, scale {scale}"
