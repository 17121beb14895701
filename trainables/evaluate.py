"""The one evaluator: scores a model on regions under a protocol, one encoder pass a region."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F

from trainables.components import BoolMask, fill_box, keep_largest_component
from trainables.data.store import RegionStore
from trainables.errors import DataError, Finding
from trainables.metrics import Overlap, count_overlap
from trainables.model.forward import ImageFeatures, decode_prompts, encode_images, select_best_mask
from trainables.prompts import Prompt, draw_prompt, stack_prompts
from trainables.protocol import (
    Protocol,
    clean_mask,
    find_components,
    find_scored_size,
    find_valid,
    require_same_protocol,
    resize_mask,
)
from trainables.tta import average_views, restore_maps, transform_maps, transform_pair, transform_prompt

# Objects decoded at once; bounds memory where a region has hundreds of components.
MAX_OBJECTS_PER_PASS = 64


@dataclass(frozen=True)
class PairScore:
    """One class of one region.

    Attributes:
        file: Name of the region.
        class_name: Name of the class.
        patient: Whose tissue it is.
        overlap: Pixel counts of the prediction against the class.
        ceiling: The best Dice within the prompt. With boxes, that of the class's pixels inside them, which no
            other mask inside them exceeds. Without boxes that of the prompted components, and where only the
            largest component is kept that of the largest of these: what perfect answers to the prompts score.
        floor: Dice of the filled boxes of the prompted components: what the box alone already says.
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
    """All pairs of one model on one set of regions, under one protocol."""

    protocol: Protocol
    pairs: tuple[PairScore, ...]

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
        return float(np.mean([pair.ceiling for pair in self.pairs]))

    @property
    def floor(self) -> float:
        """The Dice of the filled boxes (mean over pairs)."""
        return float(np.mean([pair.floor for pair in self.pairs]))

    def per_class(self, metric: str = "dice") -> dict[str, float]:
        """Returns the mean ``dice`` or ``iou`` of each class over its regions."""
        values: dict[str, list[float]] = defaultdict(list)
        for pair in self.pairs:
            values[pair.class_name].append(getattr(pair.overlap, metric))
        return {name: float(np.mean(each)) for name, each in values.items()}

    def to_flat(self) -> dict[str, float]:
        """Flattens for logs: ``dice``, ``iou``, ``dice/<class>``, ``iou/<class>``."""
        flat = {"dice": self.dice, "iou": self.iou}
        for metric in ("dice", "iou"):
            flat |= {f"{metric}/{name}": value for name, value in self.per_class(metric).items()}
        return flat

    def _average(self, values: Sequence[float], metric: str) -> float:
        if self.protocol.averaging == "pairs":
            return float(np.mean(values))
        if self.protocol.averaging == "classes":
            return float(np.mean(list(self.per_class(metric).values())))
        pooled: dict[str, Overlap] = defaultdict(lambda: Overlap(0, 0, 0))
        for pair in self.pairs:
            pooled[pair.class_name] += pair.overlap
        return float(np.mean([getattr(overlap, metric) for overlap in pooled.values()]))


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Joins scores of different regions under one protocol, as of the folds of a cross-validation."""
    for part in parts[1:]:
        require_same_protocol(parts[0].protocol, part.protocol)
    return Scores(parts[0].protocol, tuple(pair for part in parts for pair in part.pairs))


class ObjectPlan(NamedTuple):
    """One prompted component; ``scale`` brings its prompt to the model's image size."""

    pair: int
    prompt: Prompt
    scale: tuple[float, float]


@dataclass(frozen=True)
class PairPlan:
    """One class of one region, with the Dice that its prompts allow at best and by their boxes alone."""

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

    def __init__(self, store: RegionStore, names: Sequence[str], protocol: Protocol) -> None:
        self.store = store
        self.protocol = protocol
        self.plans = tuple(self._plan_region(store.index(name)) for name in names)

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
            for component in components:
                prompt = draw_prompt(component, class_mask, self.protocol.prompt, rng)
                objects.append(ObjectPlan(len(pairs), prompt, (side / width, side / height)))
            boxes = np.logical_or.reduce([fill_box(component) for component in components])
            reachable = self._find_reachable(class_mask, components, boxes)
            pairs.append(
                PairPlan(
                    class_id,
                    count_overlap(reachable, class_mask, valid).dice,
                    count_overlap(boxes, class_mask, valid).dice,
                )
            )
        return RegionPlan(index, tuple(pairs), tuple(objects))

    def _find_reachable(
        self, class_mask: BoolMask, components: Sequence[BoolMask], boxes: BoolMask
    ) -> BoolMask:
        """Returns the best answer to the prompts of a class; see :attr:`PairScore.ceiling`."""
        if self.protocol.keep_largest:
            return keep_largest_component(np.logical_or.reduce(components))
        # A box does not say which of the class's parts inside it are meant: all may be answered.
        reachable: BoolMask = (
            class_mask & boxes if self.protocol.prompt.box else np.logical_or.reduce(components)
        )
        return reachable


def evaluate(
    model: SAM2Base, regions: EvaluationSet, device: torch.device, regions_per_pass: int = 4
) -> Scores:
    """Scores a model on every (region, class) pair; see :func:`predict_masks`."""
    return collect_scores(regions, predict_masks(model, regions, device, regions_per_pass))


def collect_scores(
    regions: EvaluationSet, predictions: Iterable[tuple[RegionPlan, list[BoolMask]]]
) -> Scores:
    """Counts the overlap of each region's predicted masks (one a class, as planned) with its classes.

    Raises:
        DataError: If no region shows a class that the protocol prompts: there is nothing to score.
    """
    store, protocol = regions.store, regions.protocol
    scores = []
    for plan, masks in predictions:
        actual = regions.mask(plan.index)
        valid = find_valid(actual, store.ignore_ids, protocol)
        for pair, mask in zip(plan.pairs, masks, strict=True):
            scores.append(
                PairScore(
                    store.names[plan.index],
                    store.classes[pair.class_id],
                    store.patients[plan.index],
                    count_overlap(mask, actual == pair.class_id, valid),
                    pair.ceiling,
                    pair.floor,
                )
            )
    if not scores:
        what = "no region to score shows a class in components that the protocol prompts"
        raise DataError([Finding(str(store.folder), what, "check the classes and the split")])
    return Scores(protocol, tuple(scores))


@torch.no_grad()
def predict_masks(
    model: SAM2Base, regions: EvaluationSet, device: torch.device, regions_per_pass: int = 4
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields each region's plan and its cleaned masks, one for each class, at the size that is scored.

    The encoder sees each region once under each view of the protocol's test-time augmentation. The model is put
    into evaluation mode while this runs, and back into the mode it had.

    Args:
        model: With adapters on (a candidate) or off (the zero-shot bar).
        regions: Regions and prompts.
        device: Where the model lies.
        regions_per_pass: Regions that the encoder takes at once.
    """
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(regions.plans), regions_per_pass):
            plans = regions.plans[start : start + regions_per_pass]
            images = torch.from_numpy(np.stack([regions.store.image(plan.index) for plan in plans])).to(device)
            with autocast(device):
                features = {
                    view: encode_images(model, transform_maps(images, view)) for view in regions.protocol.tta
                }
            for position, plan in enumerate(plans):
                yield plan, _predict_region(model, regions, plan, features, position)
    finally:
        model.train(was_training)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on CUDA devices that have it, full precision elsewhere."""
    usable = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=usable)


def _predict_region(
    model: SAM2Base,
    regions: EvaluationSet,
    plan: RegionPlan,
    features: Mapping[str, ImageFeatures],
    position: int,
) -> list[BoolMask]:
    size, protocol = regions.size(plan.index), regions.protocol
    united = np.zeros((len(plan.pairs), *size), bool)
    for objects in _group_objects(plan.objects):
        logits = select_best_mask(
            *decode_objects(model, objects, features, position, size, protocol.multimask)
        )
        for item, small in zip(objects, logits, strict=True):
            # One at a time: at full size the masks of a whole pass could fill a GPU.
            full = F.interpolate(small[None, None], size, mode="bilinear", align_corners=False)[0, 0]
            united[item.pair] |= (full > protocol.threshold).cpu().numpy()
    return [clean_mask(mask, protocol) for mask in united]


def _group_objects(objects: Sequence[ObjectPlan]) -> Iterator[list[ObjectPlan]]:
    """Groups objects of equally many points: padding would change what the decoder sees."""
    groups: dict[int, list[ObjectPlan]] = defaultdict(list)
    for item in objects:
        groups[len(item.prompt.labels)].append(item)
    for group in groups.values():
        for start in range(0, len(group), MAX_OBJECTS_PER_PASS):
            yield group[start : start + MAX_OBJECTS_PER_PASS]


def decode_objects(
    model: SAM2Base,
    objects: Sequence[ObjectPlan],
    features: Mapping[str, ImageFeatures],
    position: int,
    size: tuple[int, int],
    multimask: bool,
) -> tuple[Float[Tensor, "objects masks h4 w4"], Float[Tensor, "objects masks"]]:
    """Returns logits and predicted IoU of one region's objects, upright, averaged over the views.

    Candidates are averaged one by one: the decoder's n-th under one view with its n-th under the others.

    Args:
        model: The model that made the features.
        objects: With prompts of equally many points, in pixels of the scored mask.
        features: By view: those of the region as it is seen under that view.
        position: The region among those that were encoded together.
        size: Height and width of the scored mask.
        multimask: Three candidate masks instead of one.
    """

    def decode(view: str) -> tuple[Tensor, Tensor]:
        seen = features[view]
        device = seen.embedding.device
        batch = stack_prompts(
            [transform_prompt(item.prompt, size, view) for item in objects],
            [transform_pair(item.scale, view) for item in objects],
        )
        region_index = torch.full((len(objects),), position, device=device)
        with autocast(device):
            outputs = decode_prompts(
                model, seen, region_index, batch.points.to(device), batch.labels.to(device), multimask
            )
        return restore_maps(outputs.logits.float(), view), outputs.iou.float()

    return average_views(features, decode)
