"""Background as an extra class, for models that label every pixel."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from trainables.protocol.components import BoolMask

BACKGROUND = "background"
# A class id in plans; masks hold ids in 0..255.
BACKGROUND_ID = -1


def name_background(classes: Mapping[int, str]) -> str:
    """Returns the name of background: ``background``, unless a class of the data set has that name."""
    return BACKGROUND if BACKGROUND not in classes.values() else f"{BACKGROUND} (no class)"


def pick_background_id(classes: Mapping[int, str]) -> int:
    """Returns the id of background in predicted masks: the lowest that is no class, mostly 0."""
    return min(set(range(256)) - set(classes))


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
