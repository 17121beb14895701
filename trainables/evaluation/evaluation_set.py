"""Regions under a protocol: prompts drawn once, ceilings, floors, and true masks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from trainables.data.store import RegionStore
from trainables.protocol.background import BACKGROUND, BACKGROUND_ID, split_classes
from trainables.protocol.components import BoolMask, Component, fill_boxes, keep_largest_component, unite
from trainables.protocol.overlap import Overlap, count_overlap
from trainables.protocol.prompts import Prompt, draw_prompt, find_negative_room
from trainables.protocol.spec import Protocol, find_components, find_tiles, find_valid
from trainables.tiles.grid import Tile, take_region


class ObjectPlan(NamedTuple):
    """One prompted component, in pixels of its tile; ``scale`` brings its prompt to the model's image size."""

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
class TilePlan:
    """What a model sees at once: a tile, or a whole region, with the objects that are prompted in it.

    ``pairs`` are the positions of the region's pairs that are predicted in it, ascending.
    """

    tile: Tile
    pairs: tuple[int, ...]
    objects: tuple[ObjectPlan, ...]


@dataclass(frozen=True)
class RegionPlan:
    """One region, by its index in the store: its pairs, and the tiles in which they are predicted."""

    index: int
    pairs: tuple[PairPlan, ...]
    tiles: tuple[TilePlan, ...]

    @property
    def objects(self) -> tuple[ObjectPlan, ...]:
        """The prompted components of all tiles."""
        return tuple(item for part in self.tiles for item in part.objects)


class _ClassInTile(NamedTuple):
    """A class's prompts in a tile; the overlap of the best answer to them, and of their boxes, with it in the core."""

    prompts: tuple[Prompt, ...]
    best: Overlap
    boxes: Overlap


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
            ids = (*store.classes, BACKGROUND_ID)
            pairs = tuple(PairPlan(class_id, 1.0, floor) for class_id, floor in zip(ids, floors, strict=True))
            self.plans = tuple(self._plan_named(index, pairs) for index in indices)
        else:
            # Normal tissue has nothing to prompt.
            self.plans = tuple(self._plan_region(index) for index in indices if store.class_pixels[index].any())

    def find_name(self, class_id: int) -> str:
        """Returns the name of a planned class."""
        return BACKGROUND if class_id == BACKGROUND_ID else self.store.classes[class_id]

    def find_class(self, actual: UInt8[np.ndarray, "h w"], class_id: int) -> BoolMask:
        """Returns the pixels of a planned class in a region's mask; background: valid pixels of no class."""
        found: BoolMask = self._split(actual)[-1] if class_id == BACKGROUND_ID else actual == class_id
        return found

    def _split(self, mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "names h w"]:
        return split_classes(mask, list(self.store.classes), find_valid(mask, self.store.ignore_ids))

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
        counts: np.ndarray = self._split(self.store.mask(index)).sum(axis=(1, 2), dtype=np.int64)
        return counts

    def _find_tiles(self, index: int) -> list[Tile]:
        return find_tiles(self.store.size(index), self.store.scales[index].um_per_px, self.protocol)

    def join(self, plan: RegionPlan, answers: Iterator[list[BoolMask]]) -> list[BoolMask]:
        """Returns a region's masks, one for each pair, from its tiles' next answers: each fills its core."""
        size = self.store.size(plan.index)
        if [part.tile for part in plan.tiles] == [take_region(size)]:
            return next(answers)
        joined = np.zeros((len(plan.pairs), *size), bool)
        for part, masks in zip(plan.tiles, answers, strict=False):
            for whole, mask in zip(joined, masks, strict=True):
                whole[part.tile.core.slices] = mask[part.tile.core.shift(part.tile.window).slices]
        return list(joined)

    def _plan_named(self, index: int, pairs: tuple[PairPlan, ...]) -> RegionPlan:
        """Plans a region without prompts; tiles in which no pixel counts are left out."""
        mask, every = self.store.mask(index), tuple(range(len(pairs)))
        valid = find_valid(mask, self.store.ignore_ids)
        tiles = self._find_tiles(index)
        seen = [tile for tile in tiles if valid is None or len(tiles) == 1 or valid[tile.core.slices].any()]
        return RegionPlan(index, pairs, tuple(TilePlan(tile, every, ()) for tile in seen))

    def _plan_region(self, index: int) -> RegionPlan:
        """Plans a region with prompts; of several tiles those without an object are left out."""
        mask, side = self.store.mask(index), self.store.image_size
        tiles = self._find_tiles(index)
        shown = [(tile, self._plan_tile(index, mask, tile, is_whole=len(tiles) == 1)) for tile in tiles]
        prompted = [one for one in self.store.classes if any(one in found and found[one].prompts for _, found in shown)]
        pairs = []
        for one in prompted:
            limits = [found[one] for _, found in shown if one in found]
            best = sum((each.best for each in limits), Overlap(0, 0, 0))
            boxes = sum((each.boxes for each in limits), Overlap(0, 0, 0))
            pairs.append(PairPlan(one, best.dice, boxes.dice))
        plans = []
        for tile, found in shown:
            height, width = tile.window.size
            objects = tuple(
                ObjectPlan(pair, prompt, (side / width, side / height))
                for pair, one in enumerate(prompted)
                if one in found
                for prompt in found[one].prompts
            )
            if objects or len(tiles) == 1:
                plans.append(TilePlan(tile, tuple(sorted({item.pair for item in objects})), objects))
        return RegionPlan(index, tuple(pairs), tuple(plans))

    def _plan_tile(
        self, index: int, mask: UInt8[np.ndarray, "h w"], tile: Tile, is_whole: bool
    ) -> dict[int, _ClassInTile]:
        """Draws the prompts of each class that a tile of a region shows, and measures their limits in its core."""
        seen, core = mask[tile.window.slices], tile.core.shift(tile.window).slices
        valid = find_valid(seen, self.store.ignore_ids)
        place = () if is_whole else (tile.window.top, tile.window.left)
        found = {}
        for class_id in self.store.classes:
            class_mask = seen == class_id
            if not class_mask.any():
                continue
            prompts: tuple[Prompt, ...] = ()
            best = boxes = np.zeros_like(class_mask)
            if components := find_components(class_mask, self.protocol):
                seed = (self.protocol.prompt_seed, zlib.crc32(self.store.names[index].encode()), class_id, *place)
                rng = np.random.default_rng(seed)
                room = find_negative_room(class_mask, self.protocol.prompt)
                prompts = tuple(draw_prompt(each, room, self.protocol.prompt, rng) for each in components)
                boxes = fill_boxes(components)
                best = self._find_reachable(class_mask, components, boxes)
            own, counted = class_mask[core], None if valid is None else valid[core]
            found[class_id] = _ClassInTile(
                prompts, count_overlap(best[core], own, counted), count_overlap(boxes[core], own, counted)
            )
        return found

    def _find_reachable(self, class_mask: BoolMask, components: Sequence[Component], boxes: BoolMask) -> BoolMask:
        """Returns the best answer to the prompts of a class; see :attr:`PairScore.ceiling`."""
        if self.protocol.keep_largest:
            return keep_largest_component(unite(components))
        # A box does not say which of the class's parts inside it are meant: all count.
        reachable: BoolMask = class_mask & boxes if self.protocol.prompt.box else unite(components)
        return reachable
