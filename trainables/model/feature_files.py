"""Tensors kept on disk, one file a picture: written whole, shared by all processes of a node, bounded in size."""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

MAX_BYTES = 40_000_000_000
# Other processes write too: after so many bytes each looks again at what all of them have taken.
_RECOUNT_BYTES = 500_000_000
_UNUSED_AFTER_S = 24 * 3600

logger = logging.getLogger(__name__)


class FeatureFiles:
    """One set of files, a folder beside other sets: those of one model, whose features nobody else can use.

    All sets together take at most ``max_bytes``, and at most half of what the disk would have free without them. At
    that bound sets that nobody opened for a day are removed; if that is not enough, nothing more is written.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        """Opens a set, which need not exist yet."""
        self.folder, self._max_bytes = folder, max_bytes
        self._allowed = 0
        self._is_full = False
        with suppress(OSError):  # new, or in a place where this user may only read
            os.utime(folder)

    def read(self, name: str) -> dict[str, Tensor] | None:
        """Returns what :meth:`write` wrote under a name, on the CPU; None where there is nothing, or a damaged file."""
        try:
            found: dict[str, Tensor] = load_file(self.folder / name)
        except (OSError, SafetensorError):
            return None
        return found

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes tensors under a name, unless the bound or the disk's end is reached."""
        n_bytes = sum(tensor.nbytes for tensor in tensors.values())
        if self._is_full or not self._take(n_bytes):
            return
        partial = self.folder / f"{uuid.uuid4().hex}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, partial)
            partial.replace(self.folder / name)
        except (OSError, SafetensorError) as error:
            self._stop(str(error))
            with suppress(OSError):
                partial.unlink()

    def _take(self, n_bytes: int) -> bool:
        """Returns whether so many bytes may be written, and counts them."""
        if self._allowed < n_bytes:
            root = self.folder.parent
            room = _count_room(root, self._max_bytes)
            if room < n_bytes:
                _remove_unused(root)
                room = _count_room(root, self._max_bytes)
            self._allowed = min(room, max(n_bytes, _RECOUNT_BYTES))
        self._allowed -= n_bytes
        if self._allowed < 0:
            self._stop("its bound is reached")
        return self._allowed >= 0

    def _stop(self, why: str) -> None:
        self._is_full = True
        logger.warning("%s: no more features are kept (%s); they are computed anew", self.folder.parent, why)


def _count_room(root: Path, max_bytes: int) -> int:
    """Returns how many bytes all sets may still take."""
    used = 0
    for path in root.glob("*/*"):
        with suppress(OSError):  # removed just now
            used += path.stat().st_size
    place = next(each for each in (root, *root.parents) if each.is_dir())
    return min(max_bytes - used, (shutil.disk_usage(place).free - used) // 2)


def _remove_unused(root: Path) -> None:
    """Removes the sets in which for a day nothing was written, and which nobody opened."""
    for folder in root.glob("*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _UNUSED_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)
