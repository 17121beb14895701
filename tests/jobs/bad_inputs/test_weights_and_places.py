"""Checkpoints, folders, disks and devices that cannot be used: the finding names them."""

import os
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.model.weights import NANO_WEIGHTS


def save_nano(path: Path, **changes: torch.Tensor | None) -> None:
    state = load_file(NANO_WEIGHTS) | changes
    torch.save({"model": {name: value for name, value in state.items() if value is not None}}, path)


def save_without(path: Path) -> None:
    save_nano(path, **{"sam_mask_decoder.iou_token.weight": None})


def save_other_size(path: Path) -> None:
    trunk = "image_encoder.trunk"
    state = {f"{trunk}.blocks.{index}.norm1.weight": torch.zeros(1) for index in range(48)}
    torch.save({"model": state | {f"{trunk}.patch_embed.proj.weight": torch.zeros(144, 3, 7, 7)}}, path)


def save_flipped(path: Path) -> None:
    """Turns a byte amid the values of one weight, as a bad disk does: PyTorch's own loader reads over it."""
    save_nano(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def save_with_a_broken_directory(path: Path) -> None:
    save_nano(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\1\2", b"PK\0\0", 1))


def save_bomb(path: Path) -> None:
    """A checkpoint with a record that unpacks to a thousand times its bytes."""
    save_nano(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(50_000_000))


def save_flipped_header(path: Path) -> None:
    content = bytearray(NANO_WEIGHTS.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(content)


def save_holding(*values: float) -> Callable[[Path], None]:
    weight = load_file(NANO_WEIGHTS)["image_encoder.trunk.pos_embed"]
    weight.view(-1)[5 : 5 + len(values)] = torch.tensor(values)
    return lambda path: save_nano(path, **{"image_encoder.trunk.pos_embed": weight})


def save_as(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    name = "image_encoder.trunk.pos_embed"
    return lambda path: save_nano(path, **{name: change(load_file(NANO_WEIGHTS)[name])})


def save_halves_that_overflow(path: Path) -> None:
    save_file({name: (value * 1e7).half() for name, value in load_file(NANO_WEIGHTS).items()}, path)


WEIGHTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "of another size": ("w.pt", save_other_size, "--model large"),
    "a weight missing": ("w.pt", save_without, "sam_mask_decoder.iou_token.weight"),
    "not a SAM2": ("w.pt", lambda path: torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, path), "does not fit"),
    "a pipe": ("w.pt", os.mkfifo, "not a regular file but a pipe"),
    "a flipped byte": ("w.pt", save_flipped, "is damaged (the checksum does not fit)"),
    "an archive's broken directory": ("w.pt", save_with_a_broken_directory, "damaged"),
    "an archive's broken directory, of another suffix": ("w.pth", save_with_a_broken_directory, "damaged"),
    "a bomb": ("w.pt", save_bomb, "it was not opened"),
    "a flipped byte in a header": ("w.safetensors", save_flipped_header, "cannot be read as weights"),
    "complex": ("w.pt", save_as(lambda value: value.to(torch.complex64)), "the kind complex64"),
    "sparse": ("w.pt", save_as(torch.Tensor.to_sparse), "sparse_coo"),
    "without values": ("w.pt", save_as(lambda value: value.to("meta")), "saved from the device meta"),
    "quantized": (
        "w.pt",
        save_as(lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)),
        "the kind qint8",
    ),
    "a view of a trillion values": (
        "w.pt",
        save_as(lambda value: torch.zeros(1).half().expand(10**12)),
        "1,000,000,000,000 values, and the file holds fewer",
    ),
    "infinite, or not a number": (
        "w.pt",
        save_holding(float("-inf"), 1.0, float("nan")),
        "image_encoder.trunk.pos_embed (2 of ",
    ),
    "halves that overflowed": ("w.safetensors", save_halves_that_overflow, "more tensors"),
}


@pytest.mark.filterwarnings("ignore")  # of PyTorch, on kinds of tensors that it gives up
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, tmp_path: Path, check: Callable, assert_reported: Callable) -> None:
    file, save, what = WEIGHTS[name]
    save(tmp_path / file)
    outcome = check("--checkpoint", str(tmp_path / file))
    assert outcome.code == 2
    assert_reported(outcome.findings, file, what)


def test_weights_of_numbers_in_halves_are_sound(tmp_path: Path, check: Callable) -> None:
    save_file({name: value.half() for name, value in load_file(NANO_WEIGHTS).items()}, tmp_path / "w.safetensors")
    assert check("--checkpoint", str(tmp_path / "w.safetensors")).code == 0


def test_weights_saved_without_checksums_are_sound(tmp_path: Path, check: Callable) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save_nano(tmp_path / "w.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert check("--checkpoint", str(tmp_path / "w.pt")).code == 0


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        (("--storage", "/proc/runs"), "--storage", "cannot be made"),
        (("--storage", "~nobody-here/runs"), "~nobody-here/runs", "there is no user nobody-here"),
        (("--checkpoint", "~nobody-here/w.pt"), "~nobody-here/w.pt", "no such file"),
        (("--checkpoint", "/dev/zero"), "/dev/zero", "not a regular file but a device"),
        (("--clip-weights", "/dev/zero"), "/dev/zero", "not a regular file but a device"),
        (("--folds", "99"), "--folds 99", "give at most 14"),
    ],
)
def test_options(options: tuple[str, str], where: str, what: str, check: Callable, assert_reported: Callable) -> None:
    outcome = check(*options)
    assert outcome.code == 2
    assert_reported(outcome.findings, where, what)


Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_is_reported_before_decoding(
    data: Path, check: Callable, assert_reported: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 10**4, 10**4))
    (data / "masks" / "r03.png").write_bytes(b"")
    outcome = check()
    assert_reported(outcome.findings, ".cache", "20 regions need 0.1 MB, and 0.0 MB are free")
    assert_reported(outcome.findings, "r03.png", "0 bytes")  # the pixels are looked at all the same
    assert not any(Path("runs/.cache").iterdir())
