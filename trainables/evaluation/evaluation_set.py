"""Regions under a protocol: prompts drawn once, ceilings, floors, and true masks at the scored size."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from trainables.data.store import RegionStore
from trainables.protocol.background import BACKGROUND_ID, name_background, split_classes
from trainables.protocol.components import BoolMask, Component, fill_boxes, keep_largest_component, unite
from trainables.protocol.overlap import Overlap, count_overlap
from trainables.protocol.prompts import Prompt, draw_prompt, find_negative_room
from trainables.protocol.spec import Protocol, find_components, find_scored_size, find_valid, resize_mask


class ObjectPlan(NamedTuple):
    """One prompted component; ``scale`` brings its prompt to the model's image size."""

    pair: int
    prompt: Prompt
    scale: tuple[float, float]


@dataclass(frozen=True)
class PairPlan:
    """One class of one region, with the best Dice that its prompts allow (ceiling) and that of their boxes (floor).

    Without prompts, every class and background (``BACKGROUND_ID``) is planned in every region.
    """

    class_id: int
    ceiling: float
    floor: float


@dataclass(frozen=True)
class RegionPlan:
    """One region, by its index in the store: its pairs, and the objects that are prompted for them."""

    index: int
    pairs: tuple[PairPlan, ...]
    objects: tuple[ObjectPlan, ...]


class EvaluationSet:
    """Regions with their prompts, drawn once by the protocol's seed and then used for every model."""

    def __init__(self, store: RegionStore, names: Sequence[str], protocol: Protocol, train: Sequence[str] = ()) -> None:
        """Plans every region.

        The most frequent class of the training regions, or without any of the regions themselves, is the constant
        answer: the floor without prompts.
        """
        self.store = store
        self.protocol = protocol
        indices = [store.index(name) for name in names]
        if protocol.is_auto:
            floors = self._measure_constant(indices, [store.index(name) for name in train] or indices)
            pairs = tuple(
                PairPlan(class_id, 1.0, floor) for class_id, floor in zip(self._name_ids(), floors, strict=True)
            )
            self.plans = tuple(RegionPlan(index, pairs, ()) for index in indices)
        else:
            # Normal tissue has nothing to prompt.
            self.plans = tuple(self._plan_region(index) for index in indices if store.class_pixels[index].any())

    def find_name(self, class_id: int) -> str:
        """Returns the name of a planned class."""
        if class_id == BACKGROUND_ID:
            return name_background(self.store.classes)
        return self.store.classes[class_id]

    def find_class(self, actual: UInt8[np.ndarray, "h w"], class_id: int) -> BoolMask:
        """Returns the pixels of a planned class in a region's mask; background: valid pixels of no class."""
        found: BoolMask = self._split(actual)[-1] if class_id == BACKGROUND_ID else actual == class_id
        return found

    def _name_ids(self) -> tuple[int, ...]:
        return (*self.store.classes, BACKGROUND_ID)

    def _split(self, mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "names h w"]:
        return split_classes(mask, list(self.store.classes), find_valid(mask, self.store.ignore_ids, self.protocol))

    def _measure_constant(self, indices: Sequence[int], train: Sequence[int]) -> list[float]:
        """Returns each name's Dice, pooled over the regions, if each pixel gets training's most frequent name."""
        shown = np.sum([self._count_names(index) for index in train], axis=0)
        actual = np.sum([self._count_names(index) for index in indices], axis=0)
        constant = int(np.argmax(shown))
        return [
            Overlap(int(pixels), int(actual.sum()), int(pixels)).dice if position == constant else 0.0
            for position, pixels in enumerate(actual)
        ]

    def _count_names(self, index: int) -> Int64[np.ndarray, " names"]:
        counts: np.ndarray = self._split(self.mask(index)).sum(axis=(1, 2), dtype=np.int64)
        return counts

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Returns a region's class ids at the size at which the protocol scores it."""
        return resize_mask(self.store.mask(index), self.protocol)

    def size(self, index: int) -> tuple[int, int]:
        """Returns height and width at which the protocol scores a region."""
        return find_scored_size(self.store.size(index), self.protocol)

    def _plan_region(self, index: int) -> RegionPlan:
        mask = self.mask(index)
        valid = find_valid(mask, self.store.ignore_ids, self.protocol)
        height, width = mask.shape
        side = self.store.image_size
        pairs: list[PairPlan] = []
        objects: list[ObjectPlan] = []
        for class_id in self.store.classes:
            class_mask = mask == class_id
            components = find_components(class_mask, self.protocol)
            if not components:
                continue
            seed = (self.protocol.prompt_seed, zlib.crc32(self.store.names[index].encode()), class_id)
            rng = np.random.default_rng(seed)
            room = find_negative_room(class_mask, self.protocol.prompt)
            for component in components:
                prompt = draw_prompt(component, room, self.protocol.prompt, rng)
                objects.append(ObjectPlan(len(pairs), prompt, (side / width, side / height)))
            boxes = fill_boxes(components)
            reachable = self._find_reachable(class_mask, components, boxes)
            pairs.append(
                PairPlan(
                    class_id,
                    count_overlap(reachable, class_mask, valid).dice,
                    count_overlap(boxes, class_mask, valid).dice,
                )
            )
        return RegionPlan(index, tuple(pairs), tuple(objects))

    def _find_reachable(self, class_mask: BoolMask, components: Sequence[Component], boxes: BoolMask) -> BoolMask:
        """Returns the best answer to the prompts of a class; see :attr:`PairScore.ceiling`."""
        if self.protocol.keep_largest:
            return keep_largest_component(unite(components))
        # A box does not say which of the class's parts inside it are meant: all count.
        reachable: BoolMask = class_mask & boxes if self.protocol.prompt.box else unite(components)
        return reachable
