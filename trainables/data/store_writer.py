"""Writes a region store: decodes, resizes and fingerprints regions, on a disk with room for them."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Shaped
from numpy.lib.format import open_memmap

from trainables.data.checks import DecodedRegion, RegionReport, examine_regions
from trainables.data.images import MAX_PIXELS, RgbImage, digest_pixels, read_size
from trainables.data.regions import RegionSet
from trainables.errors import DataError, Finding

Rows = Shaped[np.ndarray, "rows ..."]
SquareImage = Float32[np.ndarray, "3 side side"]

VERSION = 3  # raised with every change of the files' layout
INDEX = "index.json"
IMAGES, MASKS, MASKS_RESIZED = "images.npy", "masks.npy", "masks_resized.npy"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def describe_arrays(n_regions: int, image_size: int, n_mask_pixels: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns file name -> dtype and shape of a store's arrays; ``masks.npy`` holds all masks in one row."""
    side = image_size
    return {
        IMAGES: ("<f4", (n_regions, 3, side, side)),
        MASKS: ("|u1", (n_mask_pixels,)),
        MASKS_RESIZED: ("|u1", (n_regions, side, side)),
    }


def count_store_bytes(regions: RegionSet, image_size: int) -> int:
    """Returns how many bytes a store takes besides its index; the masks' sizes come from their headers."""
    return _count_bytes(describe_arrays(len(regions.regions), image_size, _count_mask_pixels(regions)))


def _count_bytes(arrays: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in arrays.values())


def write_store(
    regions: RegionSet, image_size: int, folder: Path, warn: Callable[[Finding], None] | None = None
) -> str:
    """Decodes all regions into a folder, which is empty, and returns their fingerprint.

    Warnings are passed to ``warn`` if there are findings; otherwise the store holds them.

    Raises:
        DataError: With all findings about the regions; also if the disk has no room, mostly before decoding.
    """
    findings: list[Finding] = []
    try:
        writer = _StoreWriter(regions, image_size, folder)
        report = examine_regions(regions, visit=writer.add)
        if not report.findings:
            return writer.finish(report)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        findings.append(_describe_full_disk(regions, image_size, folder.parent, error))
        report = examine_regions(regions)
    if warn is not None:
        for warning in report.warnings:
            warn(warning)
    raise DataError([*findings, *report.findings])


class _StoreWriter:
    """Fills a store's arrays region by region and collects what its index holds."""

    def __init__(self, regions: RegionSet, image_size: int, folder: Path) -> None:
        """Creates the arrays at full size. Raises OSError if the disk has no room for them."""
        shapes = describe_arrays(len(regions.regions), image_size, _count_mask_pixels(regions))
        if _count_bytes(shapes) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._arrays = {name: _create_array(folder / name, *shape) for name, shape in shapes.items()}
        self._regions, self._side, self._folder = regions, image_size, folder
        self._sha256: list[tuple[str, str]] = []
        self._sizes: list[tuple[int, ...]] = []
        self._pixel_digests: list[str] = []
        self._class_pixels: list[list[int]] = []
        self._n_mask_pixels = 0

    def add(self, decoded: DecodedRegion) -> None:
        """Writes the next region, which has no findings."""
        assert decoded.image is not None and decoded.mask is not None
        row, start, self._n_mask_pixels = len(self._sizes), self._n_mask_pixels, self._n_mask_pixels + decoded.mask.size
        if self._n_mask_pixels > self._arrays[MASKS].size:
            raise _changed(decoded.region.mask)
        square = (self._side, self._side)
        self._arrays[IMAGES][row] = resize_image(decoded.image, self._side)
        self._arrays[MASKS][start : self._n_mask_pixels] = decoded.mask.ravel()
        self._arrays[MASKS_RESIZED][row] = cv2.resize(decoded.mask, square, interpolation=cv2.INTER_NEAREST_EXACT)
        self._sha256.append(decoded.sha256)
        self._sizes.append(decoded.mask.shape)
        self._pixel_digests.append(digest_pixels(decoded.image))
        self._class_pixels.append([int(decoded.pixels[one]) for one in self._regions.classes])

    def finish(self, report: RegionReport) -> str:
        """Writes the index and returns the fingerprint."""
        if self._n_mask_pixels != self._arrays[MASKS].size:
            raise _changed(self._regions.root)
        for array in self._arrays.values():
            array.flush()
        regions, fingerprint = self._regions, compute_fingerprint(self._regions, self._sha256)
        index = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "image_size": self._side,
            "names": [region.name for region in regions.regions],
            "patients": [region.patient for region in regions.regions],
            "classes": list(regions.classes.items()),
            "ignore_ids": regions.ignore_ids,
            "sizes": self._sizes,
            "pixel_digests": self._pixel_digests,  # not in the fingerprint, which covers the files' bytes
            "class_pixels": self._class_pixels,
            "warnings": [(one.where, one.what, one.fix) for one in report.warnings],
        }
        (self._folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
        return fingerprint


def resize_image(image: RgbImage, side: int) -> SquareImage:
    """Resizes as SAM2's own transforms do before they normalize: torchvision's ToTensor and Resize, bit for bit.

    Calls what these call: importing torchvision takes seconds, importing torch here keeps opening a store cheap.
    """
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        pixels = torch.from_numpy(image.transpose(2, 0, 1)).contiguous().float().div(255)
        resized = interpolate(pixels[None], (side, side), mode="bilinear", align_corners=False, antialias=True)
    square: SquareImage = resized[0].numpy()
    return square


def compute_fingerprint(regions: RegionSet, digests: list[tuple[str, str]]) -> str:
    """Returns 12 hexadecimal digits over names, classes, ignored ids and the SHA-256 of each region's two files."""
    names = [region.name for region in regions.regions]
    content = [list(regions.classes.items()), sorted(regions.ignore_ids), names, digests]
    # Only if any are listed: fingerprints on record stay what they are.
    content += [sorted(regions.background_ids)] if regions.background_ids else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _count_mask_pixels(regions: RegionSet) -> int:
    """Returns the pixels of all masks by their headers; a mask that decoding will refuse takes none."""
    sizes = filter(None, (read_size(region.mask) for region in regions.regions))
    return sum(height * width for height, width in sizes if height * width <= MAX_PIXELS)


def _changed(path: Path) -> DataError:
    return DataError.at(path, "changed while it was read", "start again when nothing writes there any more")


def _create_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    """Creates a writable .npy file with all its blocks allocated: a map that meets a full disk kills the process."""
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
    return array


def _describe_full_disk(regions: RegionSet, image_size: int, cache_dir: Path, error: OSError) -> Finding:
    needed, free = count_store_bytes(regions, image_size) / 1e6, shutil.disk_usage(cache_dir).free / 1e6
    what = f"{len(regions.regions):,} regions at {image_size} px need {needed:,.1f} MB, and {free:,.1f} MB are free"
    return Finding(str(cache_dir), f"{what} ({error.strerror})", "make room, or choose a storage on a larger disk")
