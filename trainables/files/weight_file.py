"""Checks files of weights before a loader opens them, and the values that they hold."""

import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.errors import CheckpointError
from trainables.files.json_reader import read_json

_MAX_UNPACKING = 100  # ``torch.save`` packs nothing: records a hundred times the file are there to fill the memory
_AT_MOST = 3  # names of one list that a reader wants to see
# What to do about a file of a checkpoint or an export that cannot be used.
COPY_FIX = "bring its folder back from a copy: it is damaged, or of another recipe or version"


def check_weight_file(path: Path) -> None:
    """Checks that a ``.pt``, ``.bin`` or ``.safetensors`` file is readable and its bytes are those that were written.

    The records of ``torch.save`` carry checksums that PyTorch's loader does not look at. Reading them costs a
    fraction of loading (0.2 s for 900 MB); ``.safetensors`` and PyTorch's old format have none.

    Raises:
        CheckpointError: If it is missing, no regular file (a pipe, a device, a folder), may not be read, or holds
            a damaged record.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
            raise CheckpointError.at(
                path, f"cannot be read as weights: it is not a regular file but {kind}", "pass the file"
            )
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError as error:
        raise CheckpointError.at(path, "no such file", "check the path") from error
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise CheckpointError.at(path, what, "check the file, its rights and those of its folder") from error
    if zipfile.is_zipfile(path):
        _check_records(path)


def load_saved(path: Path) -> dict[str, Tensor]:
    """Returns the weights of a ``.safetensors`` file of a checkpoint or an export, by name; there may be none.

    Raises:
        CheckpointError: If it is missing, no regular file, may not be read, or is damaged.
    """
    check_weight_file(path)
    try:
        return load_file(path)
    except Exception as error:  # on damaged bytes safetensors raises its own error, which has no base but Exception
        raise CheckpointError.at(path, f"cannot be read as weights: {error}", COPY_FIX) from error


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes a ``.safetensors`` file that may be read by whom the umask allows; safetensors allows its owner alone.

    Raises:
        OSError: If the disk is full, or refuses otherwise: safetensors has an error of its own that names the number.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(state), path, metadata={"format": "pt"})
    except SafetensorError as error:
        if not (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


def refuse_other(path: Path, what: str) -> CheckpointError:
    """Returns the error for a whole file or folder of a checkpoint that does not fit the model."""
    return CheckpointError.at(path, f"is of another adapter: {what}", COPY_FIX)


def check_description(path: Path, wanted: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """Checks that a JSON file beside saved weights describes the same adapter; returns its content.

    The ``wanted`` keys must agree with the model's values; the error puts the prefix in front of a key.

    Raises:
        CheckpointError: If the file is missing or damaged, or a value differs.
    """
    saved = read_json(path, dict[str, Any], COPY_FIX, CheckpointError)
    for key, value in wanted.items():
        if saved.get(key) != value:
            raise refuse_other(path, f"{prefix}{key} must be {value}, but got {saved.get(key)}")
    return saved


def check_plain(state: Mapping[str, Tensor], path: Path) -> None:
    """Checks that tensors can become 32-bit floats as they are, in memory of the file's size.

    Raises:
        CheckpointError: Naming the first that is complex, sparse, quantized, without values (of the device
            ``meta``), or a view that claims more values than the file holds.
    """
    for name, value in state.items():
        kind = ""
        if value.is_meta:
            kind = "no values (it was saved from the device meta)"
        elif value.is_complex() or value.is_quantized or value.layout is not torch.strided:
            kind = f"the kind {str(value.dtype).removeprefix('torch.')}, {str(value.layout).removeprefix('torch.')}"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            kind = f"{value.numel():,} values, and the file holds fewer"
        if kind:
            what = f"cannot be read as weights: {name} has {kind}"
            raise CheckpointError.at(path, what, "pass weights saved as plain floats, each value once")


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Checks that all weights are finite: else every score would be NaN.

    Raises:
        CheckpointError: Naming the tensors and how many of their values are not finite.
    """
    odd = [
        f"{name} ({int((~torch.isfinite(value)).sum()):,} of {value.numel():,})"
        for name, value in state.items()
        # The extremes take a tenth of the time of a look at each value; NaN passes into them.
        if value.is_floating_point() and value.numel() and not torch.stack(value.aminmax()).isfinite().all()
    ]
    if odd:
        more = f", and {len(odd) - _AT_MOST} more tensors" if len(odd) > _AT_MOST else ""
        what = f"holds values that are NaN or infinite: {', '.join(odd[:_AT_MOST])}{more}"
        raise CheckpointError.at(path, what, "download it again, or pass weights saved before training diverged")


def _check_records(path: Path) -> None:
    """Compares each record of a zip archive with its checksum, if it was saved with checksums."""
    fix = "download it again, or copy it again from its source"
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            claimed, n_bytes = sum(record.file_size for record in records), path.stat().st_size
            if claimed > _MAX_UNPACKING * n_bytes:
                what = f"claims {claimed:,} bytes of weights in a file of {n_bytes:,}; it was not opened"
                raise CheckpointError.at(path, what, "use a file you trust")
            if not any(record.CRC for record in records):  # torch.serialization.set_crc32_options(False)
                return
            damaged = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:  # on damaged bytes the reader raises almost anything, zlib.error too
        raise CheckpointError.at(path, f"cannot be read as weights: the archive is damaged ({error})", fix) from error
    if damaged is not None:
        what = f"cannot be read as weights: its record {damaged} is damaged (the checksum does not fit)"
        raise CheckpointError.at(path, what, fix)
