"""Whether a disk has room for decoded regions, before and while they are written."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from trainables.data.bcss import RegionSet
from trainables.data.images import read_size
from trainables.errors import Finding

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SIZED_REGIONS = 200  # whose headers tell how large the masks are: of 100,000 they cost a minute
_FIX = "make room, or choose a storage on a larger disk"


def estimate_store_bytes(regions: RegionSet, image_size: int) -> int:
    """Returns how many bytes a store takes: the resized arrays exactly, the masks after a sample of headers."""
    sample = regions.regions[:: max(1, len(regions.regions) // _SIZED_REGIONS)]
    sizes = [height * width for height, width in filter(None, (read_size(region.mask) for region in sample))]
    mask_bytes = sum(sizes) / len(sizes) if sizes else 0.0
    return int(len(regions.regions) * ((3 * 4 + 1) * image_size**2 + mask_bytes))


def find_shortage(regions: RegionSet, image_size: int, cache_dir: Path) -> Finding | None:
    """Finds a disk without room for the store; quotas are seen only in writing."""
    needed, free = estimate_store_bytes(regions, image_size), shutil.disk_usage(cache_dir).free
    if needed <= free:
        return None
    number = len(regions.regions)
    what = f"{number:,} regions at {image_size} px need {describe_bytes(needed)}, and {describe_bytes(free)} are free"
    return Finding(str(cache_dir), what, _FIX)


def describe_full_disk(cache_dir: Path, error: OSError) -> Finding:
    """Says of an error of ``NO_ROOM`` what could not be written."""
    return Finding(str(cache_dir), f"the decoded regions cannot be written ({error.strerror})", _FIX)


def describe_bytes(n_bytes: int) -> str:
    """Returns a number of bytes in the largest unit that leaves a whole one: ``17.1 MB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes} bytes"
