"""The regions of a data set, decoded once into memory-mapped arrays that all trials of a node share."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from trainables.data.checks import CHECKS
from trainables.data.images import IdMask, RgbImage, read_bytes
from trainables.data.regions import RegionSet
from trainables.data.store_writer import (
    INDEX,
    MASKS,
    PIXELS,
    PLACES,
    SQUARES,
    VERSION,
    Layout,
    Rows,
    SquareImage,
    compute_fingerprint,
    plan_layout,
    resize_image,
    write_store,
)
from trainables.errors import DataError, Finding
from trainables.tiles.draws import Places
from trainables.tiles.grid import Window, cut_window
from trainables.tiles.um_per_px import Scale

SquareMask = UInt8[np.ndarray, "side side"]
ClassPixels = Int64[np.ndarray, "regions classes"]
_BUILDING = ".building-"  # prefix of the folders of unfinished stores
_ABANDONED_AFTER_S = 24 * 3600


class RegionStore:
    """Images and masks of all regions, memory-mapped: cheap to open, and to send to a worker.

    A store is a folder: ``pixels.npy`` (uint8 [n, 3], the images' own pixels in one row), ``squares.npy`` (float32
    [k, 3, S, S], of images that take fewer bytes so), ``masks.npy`` (uint8, all masks in one row) and ``index.json``.
    Images are resized when they are read. Arrays may be read-only views; copy before ``torch.from_numpy``. Pickling
    keeps only the folder's path.

    Attributes:
        folder: The store's folder, absolute.
        names: Region names, sorted; the position of a name here is the region's index everywhere.
        patients: The patient of each region.
        classes: Class id -> class name.
        ignore_ids: Ids whose pixels are neither scored nor trained on.
        image_size: Side S of the resized images, in pixels.
        for_tiles: Whether windows of images can be read: all images' own pixels are kept.
        scales: Micrometres a pixel of each region, and where the number is from.
        fingerprint: 12 hexadecimal digits over names, file contents, and what ``dataset.yaml`` says of classes, ids
            and scales.
        pixel_digests: Of each region's image; equal for equal pixels, however stored, turned or mirrored.
        class_pixels: Pixels of each class at the region's own size, [n_regions, n_classes] as ``classes``.
        warnings: The build's warnings; files are relative to the data's folder.
    """

    def __init__(self, folder: Path | str) -> None:
        """Opens a built store without reading its pixels.

        Raises:
            DataError: If the folder holds no complete store of this version.
        """
        self.folder = Path(folder).resolve()
        try:
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            if index["version"] != VERSION:
                raise ValueError(f"version {index['version']}, not {VERSION}")
            self._read_index(index)
            arrays = self._layout.describe_arrays()
            maps = {name: _map(self.folder / name, shape) for name, (_, shape) in arrays.items()}
            if self.for_tiles:
                self._places = _map(self.folder / PLACES, (int(self._place_ends[-1]),))
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"is no complete region store ({error})"
            raise DataError.at(self.folder, what, "delete it: the next run builds it again") from error
        self._pixels, self._squares, self._masks = maps[PIXELS], maps[SQUARES], maps[MASKS]

    @classmethod
    def build(
        cls,
        regions: RegionSet,
        image_size: int,
        cache_dir: Path,
        warn: Callable[[Finding], None] | None = None,
        for_tiles: bool = False,
        cores: int = 1,
    ) -> RegionStore:
        """Decodes all regions into a folder below ``cache_dir``, or opens the one that holds them already.

        With ``for_tiles`` windows of regions can be read. Large sets are decoded on ``cores`` cores at once.

        Processes may build at once: a store appears whole under its final name, or not at all. Warnings of a build that
        fails are passed to ``warn``; a returned store holds its own.

        Raises:
            DataError: With all findings of ``decode_region`` over all regions, and if the disk has no room for the
                store, mostly before anything is decoded.
        """
        cache_dir = Path(cache_dir).resolve()
        cache_dir.mkdir(parents=True, exist_ok=True)
        if (cached := _find_cached(regions, image_size, cache_dir, for_tiles)) is not None:
            return cached
        _remove_abandoned(cache_dir)
        building = cache_dir / f"{_BUILDING}{uuid.uuid4().hex}"  # not mkdtemp: colleagues may share the cache
        building.mkdir()
        try:
            fingerprint = write_store(regions, plan_layout(regions, image_size, for_tiles), building, warn, cores)
            return _publish(building, cache_dir / _name_folder(regions, image_size, fingerprint, for_tiles))
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def __reduce__(self) -> tuple[type[RegionStore], tuple[Path]]:
        return RegionStore, (self.folder,)

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Returns a region's index. Raises KeyError if no region is called so."""
        return self._position[name]

    def image(self, i: int, window: Window | None = None) -> SquareImage:
        """Returns a resized image, or a window of it, RGB in [0, 1]: torchvision's ToTensor and Resize, not normalized.

        Raises:
            ValueError: If a part of the region is asked for, and its own pixels are not kept.
        """
        i = range(len(self.names))[i]
        if (pixels := self._find_pixels(i, window)) is not None:
            return resize_image(pixels, self.image_size)
        if window not in (None, Window(0, 0, *self._sizes[i])):
            raise ValueError(f"{self.names[i]} is kept as a square: this store was not built for tiles")
        square: SquareImage = self._squares[self._starts[i][1]]
        return square

    def picture(self, i: int, window: Window | None = None) -> RgbImage:
        """Returns what :meth:`image` returns in 8 bits, channels last; it raises what that raises."""
        i = range(len(self.names))[i]
        pixels = self._find_pixels(i, window)
        if pixels is not None and pixels.shape[:2] == (self.image_size, self.image_size):
            return np.array(pixels)  # resizing changes nothing
        return (self.image(i, window).transpose(1, 2, 0) * 255).round().astype(np.uint8)

    def _find_pixels(self, i: int, window: Window | None) -> RgbImage | None:
        """Returns the own pixels of a region, or of a window of it; None where they are not kept."""
        (array, start), size = self._starts[i], self._sizes[i]
        if array != PIXELS:
            return None
        pixels = self._pixels[start : start + math.prod(size)].reshape(*size, 3)
        return pixels if window is None else cut_window(pixels, window)

    def mask(self, i: int) -> IdMask:
        """Returns a mask's class ids at the region's own size."""
        i = range(len(self.names))[i]
        return self._masks[self._offsets[i] : self._offsets[i + 1]].reshape(self._sizes[i])

    def mask_resized(self, i: int, window: Window | None = None) -> SquareMask:
        """Returns a mask's class ids, or a window's, at the resized image's size, by nearest-pixel interpolation."""
        mask, side = self.mask(i), self.image_size
        found = mask if window is None else cut_window(mask, window)
        resized: SquareMask = cv2.resize(found, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)
        return resized

    def class_places(self, i: int, order: int) -> Places:
        """Returns some pixels of the class at a position in ``classes``, as positions in the flattened mask."""
        at = i * len(self.classes) + order
        return self._places[self._place_ends[at] : self._place_ends[at + 1]]

    def size(self, i: int) -> tuple[int, int]:
        """Returns a region's own height and width in pixels."""
        return self._sizes[i]

    def class_presence(self) -> dict[str, frozenset[int]]:
        """Returns region name -> ids of the classes that its mask holds."""
        ids = np.array(list(self.classes))
        rows = zip(self.names, self.class_pixels, strict=True)
        return {name: frozenset(ids[row > 0].tolist()) for name, row in rows}

    def _read_index(self, index: dict[str, Any]) -> None:
        self.names: tuple[str, ...] = tuple(index["names"])
        self.patients: tuple[str, ...] = tuple(index["patients"])
        self.classes: dict[int, str] = {int(one): str(name) for one, name in index["classes"]}
        self.ignore_ids: tuple[int, ...] = tuple(index["ignore_ids"])
        self.image_size = int(index["image_size"])
        self.fingerprint = str(index["fingerprint"])
        self.pixel_digests: tuple[str, ...] = tuple(index["pixel_digests"])
        self.warnings = tuple(Finding(*one) for one in index["warnings"])
        self.class_pixels: ClassPixels = np.array(index["class_pixels"], np.int64).reshape(
            len(self.names), len(self.classes)
        )
        self.class_pixels.flags.writeable = False
        self._sizes: list[tuple[int, int]] = [(int(h), int(w)) for h, w in index["sizes"]]
        self.scales = tuple(Scale(float(um), str(source)) for um, source in index["scales"])
        self.for_tiles = bool(index["for_tiles"])
        self._layout = Layout(self._sizes, self.image_size, self.for_tiles)
        self._starts, self._offsets = self._layout.find_starts(), self._layout.find_mask_starts()
        self._place_ends = np.cumsum([0, *(n for counts in index["n_places"] for n in counts)], dtype=np.int64)
        self._position = {name: i for i, name in enumerate(self.names)}


def _name_folder(regions: RegionSet, image_size: int, fingerprint: str, for_tiles: bool) -> str:
    """Names a store's folder; the index holds patients and warnings, which are no part of the fingerprint."""
    patients = json.dumps([CHECKS, *(region.patient for region in regions.regions), *["tiles"] * for_tiles])
    return f"{fingerprint}-{image_size}px-{hashlib.sha256(patients.encode()).hexdigest()[:6]}"


def _find_cached(regions: RegionSet, image_size: int, cache_dir: Path, for_tiles: bool) -> RegionStore | None:
    """Opens the store of exactly these files; they are hashed only if a store of their names exists."""
    candidates = []
    for index in sorted(cache_dir.glob(f"*-{image_size}px-*/{INDEX}")):
        with suppress(DataError):  # damaged, or of another version: it is built again
            candidates.append(RegionStore(index.parent))
    names = tuple(region.name for region in regions.regions)
    if not any(store.names == names for store in candidates):
        return None
    try:
        digests = [(_hash_file(region.image), _hash_file(region.mask)) for region in regions.regions]
    except DataError:
        return None  # the build reports this together with all other findings
    folder = cache_dir / _name_folder(regions, image_size, compute_fingerprint(regions, digests), for_tiles)
    return next((store for store in candidates if store.folder == folder), None)


def _remove_abandoned(cache_dir: Path) -> None:
    """Removes the folders of killed builds: unfinished, and nothing was written there for a day."""
    for folder in cache_dir.glob(f"{_BUILDING}*"):
        try:
            written = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        except OSError:
            continue  # finished or removed by its owner just now
        if time.time() - written > _ABANDONED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def _hash_file(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _publish(building: Path, folder: Path) -> RegionStore:
    """Moves a finished store to its place, unless another process was faster."""
    try:
        os.rename(building, folder)
    except OSError:
        try:
            return RegionStore(folder)
        except DataError:  # the store there is damaged
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(building, folder)
    return RegionStore(folder)


def _map(path: Path, shape: tuple[int, ...]) -> Rows:
    """Maps an array read-only. Raises ValueError if it has another shape or the file is cut off."""
    array: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape:
        raise ValueError(f"{path.name} has shape {array.shape}, not {shape}")
    return array.view(np.ndarray)
