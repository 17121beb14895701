"""What masks are taken to hold where ``dataset.yaml`` names no classes: the ids of BCSS, if that is likely."""

import numpy as np

from trainables.data.checks import shows_objects
from trainables.data.images import IdMask, read_mask
from trainables.data.patients import find_tcga_patient
from trainables.data.regions import RegionSet
from trainables.errors import DataError, Finding

_MAX_MASKS = 20  # that are looked at
_MAX_IDS = 12  # in an example
_MIN_COUNTS = 3  # different numbers of objects that masks of one id an object show


def find_assumptions(regions: RegionSet) -> tuple[list[Finding], list[Finding]]:
    """Returns findings if masks whose classes are not named are hardly BCSS's, else warnings that they pass for it."""
    masks = []
    for region in regions.regions[:: -(-len(regions.regions) // _MAX_MASKS)]:
        try:
            masks.append(read_mask(region.mask))
        except DataError:  # the checks of the regions report it
            continue
    ids = sorted({int(one) for mask in masks for one in np.unique(mask)} - {0})
    where = f"{regions.root / 'dataset.yaml'} classes"
    write = f"write dataset.yaml with a line such as {_write_example(ids)}"
    listed = ", ".join(f"{one} {name}" for one, name in regions.classes.items())
    if _hold_one_id_an_object(masks):
        what = f"are not named, and the masks look like one id an object (ids {ids[0]} to {ids[-1]})"
        fix = "give all objects of a class one id, and write dataset.yaml with a line such as `classes: {1: gland}`"
        return [Finding(where, what, fix)], []
    if any(find_tcga_patient(region.name) for region in regions.regions):
        ignored = "id 0 does not count" if 0 in regions.ignore_ids else "0 is background"
        what = (
            f"are not named: the ids are read as those of BCSS ({listed}; {ignored}, and its other ids are background)"
        )
        return [], [Finding(where, what, f"if they are others, {write}")]
    what = f"are not named, and no file has a TCGA name as in BCSS, so that its ids ({listed}) cannot be assumed"
    return [Finding(where, what, write)], []


def _hold_one_id_an_object(masks: list[IdMask]) -> bool:
    """Says whether all masks number their objects; some then hold more of them than others."""
    counts = {int(mask.max()) for mask in masks}
    return len(counts - {0}) >= _MIN_COUNTS and all(mask.max() <= 1 or shows_objects(mask) for mask in masks)


def _write_example(ids: list[int]) -> str:
    if len(ids) == 1:
        return f"`classes: {{{ids[0]}: tumor}}` (0 is background)"
    named = ", ".join(f"{one}: name of {one}" for one in ids[:_MAX_IDS] or [1, 2])
    return f"`classes: {{{named}}}` (0 is background, as any id that is listed under `background: [...]`)"
