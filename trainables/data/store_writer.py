"""Writes a region store: decodes, resizes and fingerprints regions row by row, on a disk with room for them."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Float32, Shaped

from trainables.data.checks import decode_region, sort_findings
from trainables.data.images import RgbImage, read_size
from trainables.data.palettes import find_palette_clashes
from trainables.data.regions import RegionSet
from trainables.errors import DataError, Finding

Rows = Shaped[np.ndarray, "rows ..."]

_HEADER_BYTES = 192  # a multiple of 64, as the format asks, with room for any shape

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SIZED_REGIONS = 200  # whose headers tell how large the masks are: of 100,000 they cost a minute
_FIX = "make room, or choose a storage on a larger disk"

SquareImage = Float32[np.ndarray, "3 side side"]

_VERSION = 3  # raised with every change of the layout below
_INDEX = "index.json"


class RowWriter:
    """Writes an .npy file row by row, so that the number of rows may stay open until the end.

    A context manager: the file holds the number of rows once it is left without an exception. Plain writes
    rather than a writable memory map: on a full disk they raise, where a map kills the process.
    """

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
        """Opens the file, over one that stands there.

        Args:
            path: The file.
            dtype: Of the values, in NumPy's notation (``<f4``).
            row_shape: Shape of one row; ``()`` for a flat array of any length.
        """
        self._dtype, self._row_shape, self._rows = np.dtype(dtype), row_shape, 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: Rows) -> None:
        """Appends [rows, *row_shape] values."""
        assert rows.shape[1:] == self._row_shape and rows.dtype == self._dtype
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._write_header()

    def _write_header(self) -> None:
        shape = (self._rows, *self._row_shape)
        descr = np.lib.format.dtype_to_descr(self._dtype)
        text = repr({"descr": descr, "fortran_order": False, "shape": shape})
        header = text.ljust(_HEADER_BYTES - 11) + "\n"  # of one length, whatever the number of rows
        assert len(header) == _HEADER_BYTES - 10
        self._file.seek(0)
        self._file.write(np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header.encode())


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


def _tell(warnings: Iterable[Finding], warn: Callable[[Finding], None] | None) -> None:
    if warn is not None:
        for warning in warnings:
            warn(warning)


def _write_store(
    regions: RegionSet,
    image_size: int,
    folder: Path,
    progress: Callable[[int, int], None] | None,
    warn: Callable[[Finding], None] | None,
) -> str:
    """Decodes all regions into a folder; returns the fingerprint. Raises DataError with every finding."""
    digests, pixel_digests, sizes, class_pixels, palettes = [], [], [], [], []
    findings: list[Finding] = []
    warnings: list[Finding] = []
    side = image_size
    with (
        RowWriter(folder / "images.npy", "<f4", (3, side, side)) as images,
        RowWriter(folder / "masks.npy", "|u1", ()) as masks,
        RowWriter(folder / "masks_resized.npy", "|u1", (side, side)) as masks_resized,
    ):
        for done, region in enumerate(regions.regions, start=1):
            decoded = decode_region(region, regions)
            findings += decoded.findings
            warnings += decoded.warnings
            palettes.append((str(region.mask), decoded.palette))
            if not findings:  # after the first the store is lost, and only further findings matter
                assert decoded.image is not None and decoded.mask is not None
                images.append(resize_image(decoded.image, side)[None])
                masks.append(decoded.mask.ravel())
                nearest = cv2.resize(decoded.mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
                masks_resized.append(nearest[None])
                digests.append(decoded.sha256)
                pixel_digests.append(decoded.pixel_digest)
                sizes.append(decoded.mask.shape)
                class_pixels.append([int(decoded.pixels[one]) for one in regions.classes])
            if progress is not None:
                progress(done, len(regions.regions))
    warnings += find_palette_clashes(palettes, regions.classes)
    if findings:
        _tell(sort_findings(warnings), warn)
        raise DataError(sort_findings(findings))
    fingerprint = _compute_fingerprint(regions, digests)
    index = {
        "version": _VERSION,
        "fingerprint": fingerprint,
        "image_size": image_size,
        "names": [region.name for region in regions.regions],
        "patients": [region.patient for region in regions.regions],
        "classes": list(regions.classes.items()),
        "ignore_ids": regions.ignore_ids,
        "sizes": sizes,
        "pixel_digests": pixel_digests,  # no part of the fingerprint, which the files' bytes tell
        "class_pixels": class_pixels,
        "warnings": [(one.where, one.what, one.fix) for one in sort_findings(warnings)],
    }
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")
    return fingerprint


def resize_image(image: RgbImage, side: int) -> SquareImage:
    """Resizes as SAM2's own transforms do before they normalize; late imports keep opening a store cheap."""
    import torch
    from torchvision.transforms import Resize, ToTensor

    with torch.inference_mode():
        resized: SquareImage = Resize((side, side))(ToTensor()(image)).numpy()
    return resized


def _compute_fingerprint(regions: RegionSet, digests: list[tuple[str, str]]) -> str:
    names = [region.name for region in regions.regions]
    content = [list(regions.classes.items()), sorted(regions.ignore_ids), names, digests]
    # Not where nothing is listed: fingerprints on record stay what they are.
    content += [sorted(regions.background_ids)] if regions.background_ids else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
