"""Findings and warnings about scale: regions that shrink, and tiles of regions whose micrometres are unknown."""

from collections.abc import Sequence
from pathlib import Path

from trainables.errors import Finding, count_things, list_some
from trainables.tiles.grid import SAME_SCALE, Tiles
from trainables.tiles.um_per_px import Scale


def find_unknown_scales(root: Path, names: Sequence[str], scales: Sequence[Scale], tiles: Tiles) -> list[Finding]:
    """Returns a finding that names the regions whose scale is unknown, though tiles are meant at one."""
    unknown = [name for name, scale in zip(names, scales, strict=True) if not scale.um_per_px]
    if not tiles.um_per_px or not unknown:
        return []
    what = f"unknown for {count_things(len(unknown), 'region')} ({list_some(unknown)}), and tiles are meant at "
    fix = (
        "write um_per_px: 0.25, or {a.png: 0.25}, in dataset.yaml; or give tiles of the regions' own pixels, without um"
    )
    return [Finding(f"{root} um_per_px", f"{what}{tiles.um_per_px:g} um a pixel", fix)]


def describe_shrinking(root: Path, sizes: Sequence[tuple[int, int]], side_px: int) -> list[Finding]:
    """Returns a warning if regions that are seen whole shrink much; the model sees squares of ``side_px``."""
    shrunk = [max(size) for size in sizes if max(size) > SAME_SCALE * side_px]
    if not shrunk:
        return []
    what = f"{len(shrunk)} of {len(sizes)} regions shrink more than {SAME_SCALE:g} times to the model's {side_px} px, "
    what += f"up to {max(shrunk) / side_px:.1f} times: nuclei and vessels may be lost"
    return [Finding(str(root / "images"), what, f"cut them into tiles: --tiles {side_px}, or {side_px},UM_PER_PX")]


def describe_mixed_scales(root: Path, scales: Sequence[Scale], tiles: Tiles) -> list[Finding]:
    """Returns a warning if tiles of the regions' own pixels show tissue at several scales."""
    known = sorted({scale.um_per_px for scale in scales if scale.um_per_px})
    if tiles.um_per_px or len(known) < 2 or known[-1] <= 1.1 * known[0]:
        return []
    what = f"regions have {known[0]:g} to {known[-1]:g} um a pixel, and tiles are meant in their own pixels"
    return [Finding(f"{root} um_per_px", what, f"show all at one scale: --tiles {tiles.side_px},{known[-1]:g}")]
