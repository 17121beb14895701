"""Training batches: augmented regions, with prompts and target masks drawn from their own masks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from trainables.augmentation.augmenter import Augmenter, has_few_views
from trainables.data.store import RegionStore
from trainables.protocol.background import split_classes
from trainables.protocol.components import BoolMask, Component
from trainables.protocol.prompts import (
    NO_PROMPT,
    PROMPT_KINDS,
    Prompt,
    PromptSpec,
    Room,
    draw_prompt,
    find_negative_room,
    stack_prompts,
)
from trainables.protocol.spec import Protocol, find_components, find_valid
from trainables.recipe import Recipe, SamplingRecipe
from trainables.tiles.draws import WindowSampler
from trainables.tiles.grid import Window

# Prompts of the recorded fine-tunes v2 and v3, read as: negative points with both kinds.
HALF_MIX = (PROMPT_KINDS["box-neg"], PromptSpec(centroid=True, n_negative=5))


class Key(NamedTuple):
    """A sample of an epoch, which counts from 0: a region by its place in the store, as a whole or through a window.

    Windows have a position among those of the epoch.
    """

    epoch: int
    region: int
    position: int | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Batch:
    """One step's regions and objects.

    With learned class prompts every class is an object of every region, in order and with background last, and
    there are no points.

    Attributes:
        images: RGB in 8 bits, channels last, of the model's image size.
        region_index: For each object, its region in the batch.
        points: x, y in pixels of the model's image size.
        labels: SAM's point labels, -1 for padding.
        targets: The prompted masks, averaged down to a quarter of the image size, in [0, 1].
        class_index: For each object, the position of its class in the store's classes; background comes last.
        valid: For each object, the share of each low-resolution pixel that counts; ignored ids do not count.
        pictures: For each image, a name by what it shows; empty where pictures will hardly come again.
    """

    images: UInt8[Tensor, "regions s s 3"]
    region_index: Int[Tensor, " objects"]
    points: Float[Tensor, "objects points 2"]
    labels: Int[Tensor, "objects points"]
    targets: Float[Tensor, "objects h4 w4"]
    class_index: Int[Tensor, " objects"]
    valid: Float[Tensor, "objects h4 w4"]
    pictures: tuple[str, ...] = ()

    def scale_images(self) -> Float[Tensor, "regions 3 s s"]:
        """Returns the images in [0, 1] as the model takes them. Loaders hand on 8 bits: a quarter of the bytes."""
        return self.images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory; PyTorch's loaders call it."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class Sample:
    """One augmented region and its objects; h4 and w4 are a quarter of its side."""

    image: UInt8[Tensor, "s s 3"]
    prompts: tuple[Prompt, ...]
    targets: tuple[Float[Tensor, "h4 w4"], ...]
    valid: Float[Tensor, "h4 w4"]
    class_index: tuple[int, ...]
    picture: str = ""


class TrainingRegions(Dataset[Sample]):
    """Regions as a trial trains on them; what is drawn depends on seed, epoch (from 0) and region alone.

    The protocol says how regions are prompted and which pixels count; the recipe has augmentation, prompts and batch
    size. Where the protocol has tiles, an epoch shows windows of the regions.
    """

    def __init__(self, store: RegionStore, protocol: Protocol, recipe: Recipe, seed: int) -> None:
        self.store, self.protocol, self.recipe, self.seed = store, protocol, recipe, seed
        # It imports albumentations: processes that are forked later need not.
        self.augmenter = Augmenter(recipe.augment)
        self._recur = protocol.tiles is None and has_few_views(recipe.augment)
        self._windows: dict[tuple[str, ...], WindowSampler | None] = {}

    def list_keys(self, epoch: int, names: Sequence[str]) -> list[Key]:
        """Returns what an epoch shows of the regions of these names: each as a whole, or drawn windows."""
        indices = [self.store.index(name) for name in names]
        windows = self._find_windows(tuple(names))
        if windows is None:
            return [Key(epoch, index) for index in indices]
        keys = []
        for position in range(len(windows)):
            region, window = windows.draw(position, np.random.default_rng((self.seed, epoch, position)))
            keys.append(Key(epoch, indices[region], position, window))
        return keys

    def _find_windows(self, names: tuple[str, ...]) -> WindowSampler | None:
        if names not in self._windows:
            self._windows[names] = make_windows(self.store, names, self.protocol, self.recipe.sampling)
        return self._windows[names]

    def __getitem__(self, key: Key) -> Sample:
        epoch, index, position, window = key
        # A window's own place was drawn from seed, epoch and position.
        rng = np.random.default_rng((self.seed, epoch, index) if position is None else (self.seed, epoch, position, 1))
        image, mask = self.store.picture(index, window), self.store.mask_resized(index, window)
        image, mask = self.augmenter(image, mask, int(rng.integers(2**31)))
        image = np.ascontiguousarray(image)
        tensor = torch.from_numpy(image)
        picture = hashlib.blake2b(image.data, digest_size=16).hexdigest() if self._recur else ""
        valid = find_valid(mask, self.store.ignore_ids)
        shrunk = shrink_mask(np.ones(mask.shape, bool) if valid is None else valid)
        if self.recipe.class_prompts.tokens:
            names = split_classes(mask, list(self.store.classes), valid)
            asked = tuple(range(len(names)))
            return Sample(tensor, (NO_PROMPT,) * len(names), tuple(map(shrink_mask, names)), shrunk, asked, picture)
        prompts, targets, class_index = [], [], []
        rooms: dict[tuple[int, PromptSpec], Room] = {}
        size = window.size if window else self.store.size(index)
        for order, component, class_mask in self._choose_objects(mask, rng, size):
            spec = choose_prompt_spec(self.recipe, self.protocol, rng, self.store.image_size / max(size))
            if (order, spec) not in rooms:
                rooms[order, spec] = find_negative_room(class_mask, spec)
            prompts.append(draw_prompt(component, rooms[order, spec], spec, rng))
            targets.append(shrink_mask(component.to_mask()))
            class_index.append(order)
        return Sample(tensor, tuple(prompts), tuple(targets), shrunk, tuple(class_index), picture)

    def _choose_objects(
        self, mask: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
    ) -> list[tuple[int, Component, BoolMask]]:
        """Returns up to ``max_objects`` prompted components, with their class's position and whole mask.

        The mask was resized from ``size``; what has the protocol's least area there is trained on, as it is scored.
        """
        least_px = self.protocol.min_component_px * mask.size / math.prod(size)
        protocol = dataclasses.replace(self.protocol, min_component_px=max(1, round(least_px)))
        found = []
        for order, class_id in enumerate(self.store.classes):
            class_mask = mask == class_id
            found += [(order, part, class_mask) for part in find_components(class_mask, protocol)]
        limit = self.recipe.prompts.max_objects
        if len(found) > limit:
            found = [found[index] for index in rng.choice(len(found), limit, replace=False)]
        return found


def make_windows(
    store: RegionStore, names: Sequence[str], protocol: Protocol, recipe: SamplingRecipe
) -> WindowSampler | None:
    """Returns the windows of the training regions; None without tiles."""
    if protocol.tiles is None:
        return None
    indices = [store.index(name) for name in names]
    return WindowSampler(
        [store.size(index) for index in indices],
        [protocol.tiles.find_side(store.scales[index].um_per_px) for index in indices],
        [[store.class_places(index, order) for index in indices] for order in range(len(store.classes))],
        recipe,
    )


def choose_prompt_spec(recipe: Recipe, protocol: Protocol, rng: np.random.Generator, scale: float) -> PromptSpec:
    """Returns the prompt of one training object, by the recipe's ``prompts.mix`` and ``prompts.box_jitter``.

    The protocol's prompt is that of ``mix: protocol``; ``rng`` chooses the kind where the mix is ``mixed`` or ``half``.
    ``scale`` is training pixels for each pixel of the region, by which the negative points' margin shrinks.
    """
    mix = recipe.prompts.mix
    if mix == "protocol":
        spec = protocol.prompt
    elif mix == "mixed":
        spec = PROMPT_KINDS[sorted(PROMPT_KINDS)[rng.integers(len(PROMPT_KINDS))]]
    elif mix == "half":
        spec = HALF_MIX[rng.integers(len(HALF_MIX))]
    else:
        spec = PROMPT_KINDS[mix]
    return dataclasses.replace(
        spec, box_jitter=recipe.prompts.box_jitter, negative_margin_px=spec.negative_margin_px * scale
    )


def shrink_mask(mask: BoolMask) -> Float[Tensor, "h4 w4"]:
    """Averages a square mask down to a quarter of its side, where the decoder's logits live."""
    side = mask.shape[0] // 4
    return torch.from_numpy(cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA))


def collate_samples(samples: Sequence[Sample]) -> Batch | None:
    """Joins samples into a batch; None where no region has an object."""
    prompts = [prompt for sample in samples for prompt in sample.prompts]
    if not prompts:
        return None
    index = [position for position, sample in enumerate(samples) for _ in sample.prompts]
    points, labels = stack_prompts(prompts, [(1.0, 1.0)] * len(prompts))
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.tensor(index),
        points,
        labels,
        torch.stack([target for sample in samples for target in sample.targets]),
        torch.tensor([order for sample in samples for order in sample.class_index]),
        torch.stack([samples[position].valid for position in index]),
        tuple(sample.picture for sample in samples if sample.picture),
    )
