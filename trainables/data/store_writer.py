"""Writes a region store: decodes, resizes and fingerprints regions, on a disk with room for them."""

import dataclasses
import errno
import functools
import hashlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.lib.format import open_memmap

from trainables.data.checks import DecodedRegion, RegionReport, examine_regions
from trainables.data.images import MAX_PIXELS, IdMask, RgbImage, digest_pixels, read_size
from trainables.data.regions import RegionSet
from trainables.errors import DataError, Finding
from trainables.tiles.draws import Places
from trainables.tiles.um_per_px import Scale

Rows = Shaped[np.ndarray, "rows ..."]
SquareImage = Float32[np.ndarray, "3 side side"]

VERSION = 4  # raised with every change of the files' layout
INDEX = "index.json"
PIXELS, SQUARES, MASKS, PLACES = "pixels.npy", "squares.npy", "masks.npy", "class_places.npy"
# Of each class in a region one pixel in so many is listed, and not more of them.
PIXELS_A_PLACE, MAX_PLACES = 256, 1000
_BLOCK_PX = 2**22
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Size = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """What a store keeps of each image: its own pixels, or its resized square where that takes fewer bytes.

    With tiles a region is read in windows, so that all keep their pixels.

    Attributes:
        sizes: Height and width of each region.
        image_size: Side of the squares, in pixels.
        for_tiles: Whether regions are read in windows.
    """

    sizes: Sequence[Size]
    image_size: int
    for_tiles: bool = False

    def keeps_pixels(self, size: Size) -> bool:
        """Says whether a region of a height and width keeps its own pixels: a byte each and color, of a square four."""
        return self.for_tiles or math.prod(size) <= 4 * self.image_size**2

    def describe_arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns file name -> dtype and shape; images' own pixels, and masks, lie in one row each."""
        kept = [size for size in self.sizes if self.keeps_pixels(size)]
        return {
            PIXELS: ("|u1", (sum(map(math.prod, kept)), 3)),
            SQUARES: ("<f4", (len(self.sizes) - len(kept), 3, self.image_size, self.image_size)),
            MASKS: ("|u1", (sum(map(math.prod, self.sizes)),)),
        }

    def find_starts(self) -> list[tuple[str, int]]:
        """Returns for each region its image's array, and its first row there."""
        starts, rows = [], {PIXELS: 0, SQUARES: 0}
        for size in self.sizes:
            name, n_rows = (PIXELS, math.prod(size)) if self.keeps_pixels(size) else (SQUARES, 1)
            starts.append((name, rows[name]))
            rows[name] += n_rows
        return starts

    def find_mask_starts(self) -> list[int]:
        """Returns each region's first row among the masks, and where the last one ends."""
        return [0, *itertools.accumulate(map(math.prod, self.sizes))]

    def count_bytes(self) -> int:
        """Returns how many bytes a store takes besides its index."""
        return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in self.describe_arrays().values())


def plan_layout(regions: RegionSet, image_size: int, for_tiles: bool = False) -> Layout:
    """Returns the layout of a store, by the headers of the masks; one that decoding will refuse takes no room."""
    sizes = (read_size(region.mask) or (0, 0) for region in regions.regions)
    return Layout([size if math.prod(size) <= MAX_PIXELS else (0, 0) for size in sizes], image_size, for_tiles)


def write_store(
    regions: RegionSet, layout: Layout, folder: Path, warn: Callable[[Finding], None] | None = None, cores: int = 1
) -> str:
    """Decodes all regions on some cores into a folder, which is empty, and returns their fingerprint.

    Warnings are passed to ``warn`` if there are findings; otherwise the store holds them.

    Raises:
        DataError: With all findings about the regions; also if the disk has no room, mostly before decoding.
    """
    findings: list[Finding] = []
    try:
        _create_arrays(layout, folder)
        places = _list_region_places(regions, layout, folder)
        report = examine_regions(regions, places=places, cores=cores, sizes=layout.sizes)
        if not report.findings:
            return _write_index(regions, layout, folder, report)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        findings.append(_describe_full_disk(layout, folder.parent, error))
        report = examine_regions(regions, cores=cores, sizes=layout.sizes)
    if warn is not None:
        for warning in report.warnings:
            warn(warning)
    raise DataError([*findings, *report.findings])


@dataclass(frozen=True)
class StoredRegion:
    """What a store's index says of a region; see :class:`~trainables.data.store.RegionStore`."""

    sha256: tuple[str, str]
    pixel_digest: str
    class_pixels: list[int]
    scale: Scale
    places: list[Places]


def _list_region_places(
    regions: RegionSet, layout: Layout, folder: Path
) -> Iterator[Callable[[DecodedRegion], StoredRegion]]:
    bare, ids = dataclasses.replace(layout, sizes=()), tuple(regions.classes)  # sent to a process with each region
    for size, start, mask_row in zip(layout.sizes, layout.find_starts(), layout.find_mask_starts(), strict=False):
        yield functools.partial(_store_region, folder, bare, ids, size, start, mask_row)


def _store_region(
    folder: Path,
    layout: Layout,
    class_ids: tuple[int, ...],
    size: Size,
    start: tuple[str, int],
    mask_row: int,
    decoded: DecodedRegion,
) -> StoredRegion:
    """Writes a region that has no findings, in the process that has decoded it.

    ``size`` is the layout's; ``start`` is the image's array, and its first row there.
    """
    image, mask = decoded.image, decoded.mask
    assert image is not None and mask is not None
    if mask.shape != size:
        raise DataError.at(
            decoded.region.mask, "changed while it was read", "start again when nothing writes there any more"
        )
    name, row = start
    rows = image.reshape(-1, 3) if name == PIXELS else resize_image(image, layout.image_size)[None]
    _write_rows(folder / name, row, rows)
    _write_rows(folder / MASKS, mask_row, mask.ravel())
    counts = [int(decoded.pixels[one]) for one in class_ids]
    listed = zip(class_ids, counts, strict=True) if layout.for_tiles else ()
    places = [list_places(mask, one, count) for one, count in listed]
    return StoredRegion(decoded.sha256, digest_pixels(image), counts, decoded.scale, places)


def _write_rows(array: Path, start: int, rows: Rows) -> None:
    np.load(array, mmap_mode="r+")[start : start + len(rows)] = rows


def _write_index(regions: RegionSet, layout: Layout, folder: Path, report: RegionReport) -> str:
    """Writes the index and returns the fingerprint."""
    stored = report.stored
    for name in layout.describe_arrays():  # other nodes read them as soon as the folder has its name
        np.load(folder / name, mmap_mode="r+").flush()
    if layout.for_tiles:
        np.save(folder / PLACES, np.concatenate([places for each in stored for places in each.places]))
    fingerprint = compute_fingerprint(regions, [each.sha256 for each in stored])
    index = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "image_size": layout.image_size,
        "for_tiles": layout.for_tiles,
        "names": [region.name for region in regions.regions],
        "patients": [region.patient for region in regions.regions],
        "classes": list(regions.classes.items()),
        "ignore_ids": regions.ignore_ids,
        "sizes": layout.sizes,
        "scales": [each.scale for each in stored],
        "pixel_digests": [each.pixel_digest for each in stored],  # not in the fingerprint, which covers files' bytes
        "class_pixels": [each.class_pixels for each in stored],
        "n_places": [list(map(len, each.places)) for each in stored],
        "warnings": [(one.where.removeprefix(f"{regions.root}/"), one.what, one.fix) for one in report.warnings],
    }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return fingerprint


def list_places(mask: IdMask, class_id: int, n_pixels: int) -> Places:
    """Returns some of a class's pixels, as positions in the flattened mask, spread evenly over all in their order."""
    ranks = np.linspace(0, n_pixels - 1, min(MAX_PLACES, math.ceil(n_pixels / PIXELS_A_PLACE))).round().astype(np.int64)
    flat, places, n_seen = mask.ravel(), [np.zeros(0, np.int32)], 0
    for start in range(0, flat.size if n_pixels else 0, _BLOCK_PX):
        found = np.flatnonzero(flat[start : start + _BLOCK_PX] == class_id)
        first, last = np.searchsorted(ranks, (n_seen, n_seen + len(found)))
        places.append((found[ranks[first:last] - n_seen] + start).astype(np.int32))
        n_seen += len(found)
    return np.concatenate(places)


def resize_image(image: RgbImage, side: int) -> SquareImage:
    """Resizes as SAM2's own transforms do before they normalize: torchvision's ToTensor and Resize, bit for bit.

    Calls what these call: importing torchvision takes seconds, importing torch here keeps opening a store cheap.
    """
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")).float().div(255)
        if image.shape[:2] == (side, side):  # the filter's weights are 1 and 0: it would change nothing
            return pixels.numpy()
        resized = interpolate(pixels[None], (side, side), mode="bilinear", align_corners=False, antialias=True)
    square: SquareImage = resized[0].numpy()
    return square


def compute_fingerprint(regions: RegionSet, digests: list[tuple[str, str]]) -> str:
    """Returns 12 hexadecimal digits over names, classes, ignored ids and the SHA-256 of each region's two files."""
    names = [region.name for region in regions.regions]
    content = [list(regions.classes.items()), sorted(regions.ignore_ids), names, digests]
    # Only if any are listed: fingerprints on record stay what they are.
    content += [sorted(regions.background_ids)] if regions.background_ids else []
    content += [sorted(regions.um_per_px.items())] if regions.um_per_px else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _create_arrays(layout: Layout, folder: Path) -> None:
    """Creates the arrays with all their blocks allocated: a map that meets a full disk kills the process.

    Raises OSError if the disk has no room for them.
    """
    if layout.count_bytes() > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for name, (dtype, shape) in layout.describe_arrays().items():
        array = open_memmap(folder / name, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with (folder / name).open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)


def _describe_full_disk(layout: Layout, cache_dir: Path, error: OSError) -> Finding:
    needed, free = layout.count_bytes() / 1e6, shutil.disk_usage(cache_dir).free / 1e6
    what = f"{len(layout.sizes):,} regions need {needed:,.1f} MB, and {free:,.1f} MB are free"
    return Finding(str(cache_dir), f"{what} ({error.strerror})", "make room, or choose a storage on a larger disk")
