"""Draws prompts (box, centroid, points, negative points) from a mask, with the caller's generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from trainables.protocol.components import BoolMask, Component

# Positions in the flattened mask, ascending.
Pixels = Int64[np.ndarray, " pixels"]

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


def draw_prompt(component: Component, room: Pixels, spec: PromptSpec, rng: np.random.Generator) -> Prompt:
    """Draws one prompt of a component; negative points lie in the room of :func:`find_negative_room`."""
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    if spec.box:
        x_min, y_min, x_max, y_max = _draw_box(component, spec.box_jitter, rng)
        points += [(x_min, y_min), (x_max, y_max)]
        labels += [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    width = component.labels.shape[1]
    inside = _list_pixels(component) if spec.centroid or spec.n_positive else room[:0]
    if spec.centroid:
        points.append((float((inside % width).mean()), float((inside // width).mean())))
        labels.append(POSITIVE)
    for candidates, number, label in ((inside, spec.n_positive, POSITIVE), (room, spec.n_negative, NEGATIVE)):
        if number and len(candidates):
            chosen = rng.choice(candidates, size=min(number, len(candidates)), replace=False)
            points += [(float(index % width), float(index // width)) for index in chosen]
            labels += [label] * len(chosen)
    return Prompt(np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels, np.int32))


def _list_pixels(component: Component) -> Pixels:
    rows, columns = np.nonzero(component.cut_out())
    left, top, *_ = component.box
    flat: np.ndarray = (rows + top) * component.labels.shape[1] + columns + left
    return flat


def find_negative_room(class_mask: BoolMask, spec: PromptSpec) -> Pixels:
    """Returns the pixels that are far enough from a class for negative points; none if the prompt has no such points.

    It is the same for all objects of the class, and takes much longer than their prompts.
    """
    if not spec.n_negative:
        return np.zeros(0, np.int64)
    # Exact distances: the 5 x 5 approximation lets points come up to 2 % too near.
    distance = cv2.distanceTransform((~class_mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    room: np.ndarray = np.flatnonzero(distance >= max(spec.negative_margin_px, 1.0))
    return room


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
