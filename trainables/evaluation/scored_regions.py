"""Which regions a protocol scores: without prompts all, else those in which it finds something to prompt."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from trainables.data.store import RegionStore
from trainables.errors import Finding, list_some
from trainables.protocol.spec import Protocol, find_components, find_tiles

_LOOKED_AT, _FEW = 20, 0.5  # regions; share of a class's pixels


def find_scored(store: RegionStore, protocol: Protocol) -> set[str]:
    """Returns the names of the regions in which the protocol scores something."""
    return {name for i, name in enumerate(store.names) if protocol.is_auto or _shows_object(store, i, protocol)}


def _shows_object(store: RegionStore, index: int, protocol: Protocol) -> bool:
    size, pixels, mask = store.size(index), store.class_pixels[index], store.mask(index)
    if protocol.components != "every":
        return bool(pixels.any())  # no mask has to be read
    tiles = find_tiles(size, store.scales[index].um_per_px, protocol)
    shown = [one for one, number in zip(store.classes, pixels, strict=True) if number]
    return any(find_components(mask[tile.window.slices] == one, protocol) for tile in tiles for one in shown)


def describe_missed(root: Path, store: RegionStore, names: Collection[str], protocol: Protocol) -> list[Finding]:
    """Warns where the largest component, which alone is prompted, has little of its class, as with nuclei or glands.

    Looks at some of the regions, at the size of the model's square.
    """
    if protocol.components != "largest" or protocol.tiles:
        return []
    shares = []
    for name in sorted(names)[:_LOOKED_AT]:
        mask = store.mask_resized(store.index(name))
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[list(store.classes)])
        for one in np.array(list(store.classes))[present]:
            (prompted,) = find_components(mask == one, protocol)
            shares.append(prompted.cut_out().sum() / (mask == one).sum())
    if not shares or (share := float(np.mean(shares))) >= _FEW:
        return []
    what = f"protocol {protocol.name} prompts the largest component of a class alone: here {share:.0%} of its pixels"
    fix = "with many objects in a region (nuclei, glands) use --protocol components, which prompts each of them"
    return [Finding(str(root / "masks"), what, fix)]


def describe_unscored(root: Path, store: RegionStore, scored: Collection[str], protocol: Protocol) -> list[Finding]:
    """Returns a warning that counts the regions without a class, or with none that is prompted, if there are any."""
    presence = store.class_presence()
    empty = [name for name in store.names if name not in scored or not presence[name]]
    if not empty:
        return []
    shown = f"{len(empty)} of {len(store)} regions ({list_some(empty)})"
    if protocol.is_auto:
        what = f"{shown} show no class: they are trained on and scored as background"
        fix = "correct their masks, if they should show one"
    else:
        what = f"{shown} show nothing that the protocol prompts: they are not scored"
        fix = "learn from them as background with spaces/classprompts.yaml, or correct their masks"
    return [Finding(str(root / "masks"), what, fix)]
