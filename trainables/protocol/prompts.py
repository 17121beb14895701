"""Draws prompts (box, centroid, points, negative points) from a mask, with the caller's generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from trainables.protocol.components import BoolMask, Component

PADDING, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


@dataclass(frozen=True)
class PromptSpec:
    """The contents of a prompt; empty for a model that has learned its classes.

    Attributes:
        box: Gives the bounding box of the component.
        centroid: Gives the component's centroid as a positive point, even if it falls outside a concave
            component (as in the recorded experiments).
        n_positive: Number of positive points drawn from inside the component.
        n_negative: Number of negative points drawn from outside the class; fewer if there is no room.
        negative_margin_px: Least distance of a negative point to the class, in pixels of the mask.
        box_jitter: Each side of the box moves by up to this fraction of the box's size (training only).
    """

    box: bool = False
    centroid: bool = False
    n_positive: int = 0
    n_negative: int = 0
    negative_margin_px: float = 10.0
    box_jitter: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether the model is given nothing."""
        return not (self.box or self.centroid or self.n_positive or self.n_negative)

    def __post_init__(self) -> None:
        if self.n_negative and not (self.box or self.centroid or self.n_positive):
            raise ValueError("a prompt needs a box, the centroid or at least one positive point")


PROMPT_KINDS: dict[str, PromptSpec] = {
    "box": PromptSpec(box=True),
    "box-neg": PromptSpec(box=True, n_negative=5),
    "centroid": PromptSpec(centroid=True),
    "points": PromptSpec(n_positive=3, n_negative=2),
}


class Prompt(NamedTuple):
    """One object's prompt: x, y in pixels of the mask, and SAM's labels; a box's corners stand in front."""

    points: Float[np.ndarray, "points 2"]
    labels: Int[np.ndarray, " points"]


# For learned class prompts.
NO_PROMPT = Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int32))


class PromptBatch(NamedTuple):
    """The prompts of several objects, padded to one length with points labelled -1."""

    points: Float[Tensor, "objects points 2"]
    labels: Int[Tensor, "objects points"]


class Room(NamedTuple):
    """Pixels of a mask from which points may be drawn.

    Attributes:
        mask: Which they are.
        ends: How many they are up to the end of each row.
    """

    mask: BoolMask
    ends: Int64[np.ndarray, " h"]


def draw_prompt(component: Component, room: Room, spec: PromptSpec, rng: np.random.Generator) -> Prompt:
    """Draws one prompt of a component; negative points lie in the room of :func:`find_negative_room`."""
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    if spec.box:
        x_min, y_min, x_max, y_max = _draw_box(component, spec.box_jitter, rng)
        points += [(x_min, y_min), (x_max, y_max)]
        labels += [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    width = component.labels.shape[1]
    chosen = np.zeros(0, np.int64)
    if spec.centroid or spec.n_positive:
        inside = _list_pixels(component)
        if spec.centroid:
            points.append((float((inside % width).mean()), float((inside // width).mean())))
            labels.append(POSITIVE)
        chosen = inside[_draw_ranks(len(inside), spec.n_positive, rng)]
        labels += [POSITIVE] * len(chosen)
    if spec.n_negative:
        ranks = _draw_ranks(int(room.ends[-1]), spec.n_negative, rng)
        chosen = np.concatenate([chosen, _find_pixels(room, ranks)])
        labels += [NEGATIVE] * len(ranks)
    points += [(float(index % width), float(index // width)) for index in chosen]
    return Prompt(np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels, np.int32))


def _draw_ranks(n_pixels: int, number: int, rng: np.random.Generator) -> Int64[np.ndarray, " drawn"]:
    """Draws so many of the numbers below ``n_pixels``, each once; fewer where there are fewer."""
    if not number or not n_pixels:
        return np.zeros(0, np.int64)
    ranks: np.ndarray = rng.choice(n_pixels, size=min(number, n_pixels), replace=False)
    return ranks


def _find_pixels(room: Room, ranks: Int64[np.ndarray, " drawn"]) -> Int64[np.ndarray, " drawn"]:
    """Returns the pixels of these ranks in the order of rows, as positions in the flattened mask."""
    rows = np.searchsorted(room.ends, ranks, side="right")
    # From the row's end, before which all ranks of the row lie.
    columns = [np.flatnonzero(room.mask[row])[rank - room.ends[row]] for row, rank in zip(rows, ranks, strict=True)]
    pixels: np.ndarray = rows * room.mask.shape[1] + np.asarray(columns, np.int64)
    return pixels


def _list_pixels(component: Component) -> Int64[np.ndarray, " pixels"]:
    """Returns the pixels of an object as positions in the flattened mask, ascending."""
    rows, columns = np.nonzero(component.cut_out())
    left, top, *_ = component.box
    flat: np.ndarray = (rows + top) * component.labels.shape[1] + columns + left
    return flat


def find_negative_room(class_mask: BoolMask, spec: PromptSpec) -> Room:
    """Returns the pixels that are far enough from a class for negative points; none if the prompt has no such points.

    It is the same for all objects of the class: 1 ms at 1024 px, where a prompt takes 0.04 ms.
    """
    if not spec.n_negative:
        return _list_room(np.zeros_like(class_mask))
    margin = np.float32(max(spec.negative_margin_px, 1.0))
    # The class is dilated by a disk, row by row of the disk from its edge to its middle. With a margin of 10 pixels
    # it is 10 times as fast as OpenCV's exact distances; its faster ones let points come up to 2 % too near.
    steps = np.arange(min(math.ceil(margin), max(class_mask.shape)), dtype=np.float32)
    widths = (np.hypot(steps[:, None], steps) < margin).sum(axis=1) - 1
    near = np.zeros(class_mask.shape, np.uint8)
    wide: np.ndarray = class_mask.view(np.uint8)
    reached = 0
    for down in range(min(len(steps), len(near)) - 1, -1, -1):
        if (step := int(widths[down]) - reached) > 0:
            wide, reached = cv2.dilate(wide, np.ones((1, 2 * step + 1), np.uint8)), reached + step
        cv2.bitwise_or(near[down:], wide[: len(wide) - down], dst=near[down:])
        cv2.bitwise_or(near[: len(near) - down], wide[down:], dst=near[: len(near) - down])
    return _list_room(near == 0)


def _list_room(mask: BoolMask) -> Room:
    return Room(mask, np.count_nonzero(mask, axis=1).cumsum())


def stack_prompts(prompts: Sequence[Prompt], scales: Sequence[tuple[float, float]]) -> PromptBatch:
    """Pads prompts to one length and scales each by the model's image size over its mask's width and height."""
    length = max(len(prompt.labels) for prompt in prompts)
    points = np.zeros((len(prompts), length, 2), np.float32)
    labels = np.full((len(prompts), length), PADDING, np.int32)
    for row, (prompt, scale) in enumerate(zip(prompts, scales, strict=True)):
        points[row, : len(prompt.labels)] = prompt.points * np.asarray(scale, np.float32)
        labels[row, : len(prompt.labels)] = prompt.labels
    return PromptBatch(torch.from_numpy(points), torch.from_numpy(labels))


def _draw_box(component: Component, jitter: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = component.box
    if not jitter:
        return float(x_min), float(y_min), float(x_max), float(y_max)
    height, width = component.labels.shape
    box_width, box_height = x_max - x_min + 1, y_max - y_min + 1
    shifts = rng.uniform(-jitter, jitter, 4) * (box_width, box_height, box_width, box_height)
    # At a jitter of 0.5 opposite sides can pass each other; sorting keeps it a box.
    left, right = sorted(np.clip((x_min + shifts[0], x_max + shifts[2]), 0, width - 1).tolist())
    top, bottom = sorted(np.clip((y_min + shifts[1], y_max + shifts[3]), 0, height - 1).tolist())
    return left, top, right, bottom
