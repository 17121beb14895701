"""Background as an extra class, for models that label every pixel."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from trainables.protocol.components import BoolMask

BACKGROUND = "background"
# A class id in plans; masks hold ids in 0..255.
BACKGROUND_ID = -1


def pick_background_id(class_ids: Collection[int], ignore_ids: Collection[int]) -> int:
    """Returns background's id in predicted masks: 0, or the lowest that means nothing else where a class has 0."""
    return 0 if 0 not in class_ids else min(set(range(256)) - {*class_ids, *ignore_ids})


def split_classes(
    mask: UInt8[np.ndarray, "h w"], class_ids: Sequence[int], valid: BoolMask | None
) -> Bool[np.ndarray, "names h w"]:
    """Returns one mask per class, in the order of the ids, and as the last that of background.

    Pixels that do not count (``valid`` is None where all do) are no background either.
    """
    classes = np.stack([mask == class_id for class_id in class_ids])
    named = np.asarray(classes.any(axis=0))
    background = ~named if valid is None else ~named & valid
    split: np.ndarray = np.concatenate([classes, background[None]])
    return split
