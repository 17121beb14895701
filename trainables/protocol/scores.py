"""Scores of a model: one per (image, class) pair, and their averages."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.protocol.overlap import Overlap
from trainables.protocol.spec import Protocol, require_same_protocol


@dataclass(frozen=True)
class PairScore:
    """One class of one region.

    Attributes:
        file: Name of the region.
        class_name: Name of the class.
        patient: Whose tissue it is.
        overlap: Pixel counts of the prediction against the class.
        ceiling: The best possible Dice inside the prompt. With boxes, that of the class's pixels inside them. Without
            boxes, that of the prompted components, or of the largest of them if only the largest component is kept:
            the score of perfect answers. Without prompts 1.
        floor: Dice of the filled boxes of the prompted components: a score without a model. Without prompts, the
            class's Dice over all regions if every pixel gets one class: the score of a constant answer.
    """

    file: str
    class_name: str
    patient: str
    overlap: Overlap
    ceiling: float
    floor: float

    @property
    def dice(self) -> float:
        """Dice of the prediction, in [0, 1]."""
        return self.overlap.dice


@dataclass(frozen=True)
class Scores:
    """All pairs of one model on one set of regions, under one protocol.

    Without prompts there is a pair for every class in every region, also for classes that the region does not show:
    false predictions there lower the pooled Dice. Such pairs have no meaningful Dice of their own; see
    :attr:`compared`.
    """

    protocol: Protocol
    pairs: tuple[PairScore, ...]

    @property
    def compared(self) -> tuple[PairScore, ...]:
        """The pairs on which two models can be compared one by one: of classes that their region shows.

        A class predicted in a region without it affects these pairs only through the class that its pixels have.
        """
        if not self.protocol.is_auto:
            return self.pairs
        return tuple(pair for pair in self.pairs if pair.overlap.actual)

    @property
    def dice(self) -> float:
        """Overall Dice in [0, 1], averaged as the protocol says."""
        return self._average([pair.overlap.dice for pair in self.pairs], "dice")

    @property
    def iou(self) -> float:
        """Overall IoU in [0, 1], averaged as the protocol says."""
        return self._average([pair.overlap.iou for pair in self.pairs], "iou")

    @property
    def ceiling(self) -> float:
        """The best Dice within the prompts (mean over pairs)."""
        return self._average_limits("ceiling")

    @property
    def floor(self) -> float:
        """The Dice of the filled boxes (mean over pairs); without prompts, of a constant answer."""
        return self._average_limits("floor")

    def per_class(self, metric: str = "dice") -> dict[str, float]:
        """Returns the mean ``dice`` or ``iou`` of each class over its regions; pooled without prompts."""
        if self.protocol.is_auto:
            return {name: getattr(overlap, metric) for name, overlap in self._pool().items()}
        values: dict[str, list[float]] = defaultdict(list)
        for pair in self.pairs:
            values[pair.class_name].append(getattr(pair.overlap, metric))
        return {name: float(np.mean(each)) for name, each in values.items()}

    @property
    def false_positives(self) -> float | None:
        """Share of the counted pixels of regions without any class that got one, in [0, 1]; None without such regions.

        Only without prompts: a prompt marks a class that is there. Background is the last pair of its region.
        """
        by_file: dict[str, list[Overlap]] = defaultdict(list)
        for pair in self.pairs if self.protocol.is_auto else ():
            by_file[pair.file].append(pair.overlap)
        normal = [own[-1] for own in by_file.values() if not any(one.actual for one in own[:-1])]
        n_pixels = sum(one.actual for one in normal)
        return 1 - sum(one.shared for one in normal) / n_pixels if n_pixels else None

    def to_flat(self) -> dict[str, float]:
        """Flattens for logs: ``dice``, ``iou``, ``dice/<class>``, ``iou/<class>``, ``false_positives`` if known."""
        flat = {"dice": self.dice, "iou": self.iou}
        for metric in ("dice", "iou"):
            flat |= {f"{metric}/{name}": value for name, value in self.per_class(metric).items()}
        return flat if self.false_positives is None else {**flat, "false_positives": self.false_positives}

    def _average(self, values: Sequence[float], metric: str) -> float:
        if self.protocol.averaging == "pairs":
            return float(np.mean(values))
        if self.protocol.averaging == "classes":
            return float(np.mean(list(self.per_class(metric).values())))
        return float(np.mean([getattr(overlap, metric) for overlap in self._pool().values()]))

    def _pool(self) -> dict[str, Overlap]:
        """Returns each class's counts over all regions, for classes that any of them shows."""
        pooled: dict[str, Overlap] = defaultdict(lambda: Overlap(0, 0, 0))
        for pair in self.pairs:
            pooled[pair.class_name] += pair.overlap
        return {name: overlap for name, overlap in pooled.items() if overlap.actual}

    def _average_limits(self, limit: str) -> float:
        if not self.protocol.is_auto:
            return float(np.mean([getattr(pair, limit) for pair in self.pairs]))
        values: dict[str, list[float]] = defaultdict(list)
        for pair in self.compared:
            values[pair.class_name].append(getattr(pair, limit))
        return float(np.mean([np.mean(each) for each in values.values()]))


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Joins scores of different regions under one protocol, such as those of folds."""
    for part in parts[1:]:
        require_same_protocol(parts[0].protocol, part.protocol)
    return Scores(parts[0].protocol, tuple(pair for part in parts for pair in part.pairs))


def flatten_scores(scores: Scores, split: str) -> dict[str, float]:
    """Returns scores by metric name: ``val_dice``, ``val_iou``, ``val_dice/<class>``, ``val_iou/<class>``.

    ``val_dice_min_class`` is the lowest Dice of a class.
    """
    figures = {f"{split}_{name}": value for name, value in scores.to_flat().items()}
    return {**figures, f"{split}_dice_min_class": min(scores.per_class().values())}


def flatten_with_limits(scores: Scores, split: str) -> dict[str, float]:
    """Returns :func:`flatten_scores` with the floor and the ceiling: ``val_floor``, ``val_ceiling``."""
    return {**flatten_scores(scores, split), f"{split}_floor": scores.floor, f"{split}_ceiling": scores.ceiling}
