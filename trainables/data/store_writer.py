"""Writes a region store: decodes, resizes and fingerprints regions, on a disk with room for them."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Shaped
from numpy.lib.format import open_memmap

from trainables.data.checks import DecodedRegion, RegionReport, examine_regions
from trainables.data.images import MAX_PIXELS, IdMask, RgbImage, digest_pixels, read_size
from trainables.data.regions import RegionSet
from trainables.errors import DataError, Finding
from trainables.tiles.um_per_px import Scale

Rows = Shaped[np.ndarray, "rows ..."]
SquareImage = Float32[np.ndarray, "3 side side"]
Places = Int32[np.ndarray, " places"]

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

    def count_bytes(self) -> int:
        """Returns how many bytes a store takes besides its index."""
        return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in self.describe_arrays().values())


def plan_layout(regions: RegionSet, image_size: int, for_tiles: bool = False) -> Layout:
    """Returns the layout of a store, by the headers of the masks; one that decoding will refuse takes no room."""
    sizes = (read_size(region.mask) or (0, 0) for region in regions.regions)
    return Layout([size if math.prod(size) <= MAX_PIXELS else (0, 0) for size in sizes], image_size, for_tiles)


def write_store(regions: RegionSet, layout: Layout, folder: Path, warn: Callable[[Finding], None] | None = None) -> str:
    """Decodes all regions into a folder, which is empty, and returns their fingerprint.

    Warnings are passed to ``warn`` if there are findings; otherwise the store holds them.

    Raises:
        DataError: With all findings about the regions; also if the disk has no room, mostly before decoding.
    """
    findings: list[Finding] = []
    try:
        writer = _StoreWriter(regions, layout, folder)
        report = examine_regions(regions, visit=writer.add)
        if not report.findings:
            return writer.finish(report)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        findings.append(_describe_full_disk(layout, folder.parent, error))
        report = examine_regions(regions)
    if warn is not None:
        for warning in report.warnings:
            warn(warning)
    raise DataError([*findings, *report.findings])


class _StoreWriter:
    """Fills a store's arrays region by region and collects what its index holds."""

    def __init__(self, regions: RegionSet, layout: Layout, folder: Path) -> None:
        """Creates the arrays at full size. Raises OSError if the disk has no room for them."""
        if layout.count_bytes() > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._arrays = {name: _create_array(folder / name, *shape) for name, shape in layout.describe_arrays().items()}
        self._regions, self._layout, self._folder = regions, layout, folder
        self._filled = dict.fromkeys(self._arrays, 0)  # rows
        self._sha256: list[tuple[str, str]] = []
        self._pixel_digests: list[str] = []
        self._class_pixels: list[list[int]] = []
        self._scales: list[Scale] = []
        self._places: list[Places] = []
        self._n_places: list[list[int]] = []

    def add(self, decoded: DecodedRegion) -> None:
        """Writes the next region, which has no findings."""
        assert decoded.image is not None and decoded.mask is not None
        size = decoded.mask.shape
        if size != tuple(self._layout.sizes[len(self._sha256)]):
            raise _changed(decoded.region.mask)
        if self._layout.keeps_pixels((size[0], size[1])):
            self._append(PIXELS, decoded.image.reshape(-1, 3))
        else:
            self._append(SQUARES, resize_image(decoded.image, self._layout.image_size)[None])
        self._append(MASKS, decoded.mask.ravel())
        self._sha256.append(decoded.sha256)
        self._pixel_digests.append(digest_pixels(decoded.image))
        self._class_pixels.append([int(decoded.pixels[one]) for one in self._regions.classes])
        self._scales.append(decoded.scale)
        if self._layout.for_tiles:
            places = [list_places(decoded.mask, one, int(decoded.pixels[one])) for one in self._regions.classes]
            self._n_places.append([len(each) for each in places])
            self._places += places

    def _append(self, name: str, rows: Rows) -> None:
        start, self._filled[name] = self._filled[name], self._filled[name] + len(rows)
        self._arrays[name][start : self._filled[name]] = rows

    def finish(self, report: RegionReport) -> str:
        """Writes the index and returns the fingerprint."""
        for array in self._arrays.values():
            array.flush()
        if self._layout.for_tiles:
            np.save(self._folder / PLACES, np.concatenate(self._places))
        regions, fingerprint = self._regions, compute_fingerprint(self._regions, self._sha256)
        index = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "image_size": self._layout.image_size,
            "for_tiles": self._layout.for_tiles,
            "names": [region.name for region in regions.regions],
            "patients": [region.patient for region in regions.regions],
            "classes": list(regions.classes.items()),
            "ignore_ids": regions.ignore_ids,
            "sizes": self._layout.sizes,
            "scales": self._scales,
            "pixel_digests": self._pixel_digests,  # not in the fingerprint, which covers the files' bytes
            "class_pixels": self._class_pixels,
            "n_places": self._n_places,
            "warnings": [(one.where, one.what, one.fix) for one in report.warnings],
        }
        (self._folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
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


def _changed(path: Path) -> DataError:
    return DataError.at(path, "changed while it was read", "start again when nothing writes there any more")


def _create_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    """Creates a writable .npy file with all its blocks allocated: a map that meets a full disk kills the process."""
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
    return array


def _describe_full_disk(layout: Layout, cache_dir: Path, error: OSError) -> Finding:
    needed, free = layout.count_bytes() / 1e6, shutil.disk_usage(cache_dir).free / 1e6
    what = f"{len(layout.sizes):,} regions need {needed:,.1f} MB, and {free:,.1f} MB are free"
    return Finding(str(cache_dir), f"{what} ({error.strerror})", "make room, or choose a storage on a larger disk")
