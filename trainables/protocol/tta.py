"""Test-time augmentation: averages the model's output over flips and quarter turns of a region.

The views are the eight elements of the dihedral group D4, the symmetries of a square. A prompt is moved in pixels
of its own mask, like the region, and then scaled to the model's size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from trainables.protocol.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, Prompt

IDENTITY = "identity"
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class _View:
    """An element of D4: perhaps transposes rows and columns, then reverses axes (-2 rows, -1 columns)."""

    transposes: bool
    reverses: tuple[int, ...]
    inverse: str


# In the order of protocols' names; turns are counterclockwise, like torch.rot90.
_VIEWS = {
    IDENTITY: _View(False, (), IDENTITY),
    "rot90": _View(True, (-2,), "rot270"),
    "rot180": _View(False, (-2, -1), "rot180"),
    "rot270": _View(True, (-1,), "rot90"),
    "hflip": _View(False, (-1,), "hflip"),
    "vflip": _View(False, (-2,), "vflip"),
    "transpose": _View(True, (), "transpose"),
    "antitranspose": _View(True, (-2, -1), "antitranspose"),
}
VIEWS: tuple[str, ...] = tuple(_VIEWS)


def transform_maps(maps: Float[Tensor, "*batch h w"], view: str) -> Float[Tensor, "*batch h_seen w_seen"]:
    """Returns images or logits as seen under a view; under the identity the same tensor."""
    how = _VIEWS[view]
    seen = maps.transpose(-2, -1) if how.transposes else maps
    return seen.flip(how.reverses) if how.reverses else seen


def restore_maps(maps: Float[Tensor, "*batch h_seen w_seen"], view: str) -> Float[Tensor, "*batch h w"]:
    """Returns upright images or logits: the inverse of :func:`transform_maps`."""
    return transform_maps(maps, _VIEWS[view].inverse)


def transform_pair(pair: tuple[Number, Number], view: str) -> tuple[Number, Number]:
    """Returns height and width, or the scales of x and y, under a view: quarter turns swap them."""
    return (pair[1], pair[0]) if _VIEWS[view].transposes else pair


def transform_prompt(prompt: Prompt, size: tuple[int, int], view: str) -> Prompt:
    """Moves a prompt, in pixels of a mask of a size (height, width), along with the mask under an element of D4.

    A box's corners stay top left and bottom right.
    """
    if view == IDENTITY:
        return prompt
    how, (height, width) = _VIEWS[view], transform_pair(size, view)
    x, y = prompt.points.T[::-1] if how.transposes else prompt.points.T
    x = width - 1 - x if -1 in how.reverses else x
    y = height - 1 - y if -2 in how.reverses else y
    points = np.stack([x, y], axis=1).astype(np.float32)
    if tuple(prompt.labels[:2]) == (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT):
        points[:2] = np.sort(points[:2], axis=0)
    return Prompt(points, prompt.labels)


def average_views(views: Iterable[str], predict: Callable[[str], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Returns the mean logits and predicted IoU over views, which ``predict`` returns upright.

    It holds at most two views at once; a single view's output is returned as it is.
    """
    names = list(views)
    logits, iou = reduce(lambda total, new: (total[0] + new[0], total[1] + new[1]), (predict(view) for view in names))
    return (logits, iou) if len(names) == 1 else (logits / len(names), iou / len(names))
