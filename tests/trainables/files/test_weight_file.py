import errno
import os
import resource
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainables.errors import CheckpointError
from trainables.files.weight_file import check_finite, check_weight_file, save_weights

NAN, INF = float("nan"), float("inf")


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (os.mkfifo, "not a regular file but a pipe"),
        (Path.mkdir, "not a regular file but a folder"),
        (bind_socket, "not a regular file but a device or socket"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_file_is_reported_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], text: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make(Path("w.pt"))
    with pytest.raises(CheckpointError, match=f"w.pt: .*{text}"):
        check_weight_file(Path("w.pt"))


@pytest.mark.parametrize("record", ["data.pkl", "data/0", "data/1"])
def test_a_flipped_byte_in_any_record_is_found(tmp_path: Path, record: str) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.randn(500), "b": torch.randn(700)}, path)
    check_weight_file(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        stored = archive.read(f"w/{record}")
    damaged = bytes([stored[0] ^ 1]) + stored[1:]
    path.write_bytes(content.replace(stored, damaged, 1))
    with pytest.raises(CheckpointError, match=rf"w\.pt: .* its record w/{record} is damaged"):
        check_weight_file(path)


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.0, NAN], r"w \(1 of 2\)"), ([INF, -INF], r"w \(2 of 2\)"), ([NAN] * 1500, r"w \(1,500 of 1,500\)")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_counted(values: list[float], text: str, dtype: torch.dtype) -> None:
    with pytest.raises(CheckpointError, match=f"NaN or infinite: {text}"):
        check_finite({"v": torch.zeros(2), "w": torch.tensor(values, dtype=dtype)}, Path("w.pt"))


def test_of_many_tensors_the_first_are_named_and_the_others_counted() -> None:
    with pytest.raises(CheckpointError, match=r"w0 \(1 of 1\), .*w2 \(1 of 1\), and 4 more tensors"):
        check_finite({f"w{index}": torch.tensor([NAN]) for index in range(7)}, Path("w.pt"))


@pytest.mark.parametrize(
    "value", [torch.tensor([3.4e38, -3.4e38]), torch.tensor([]), torch.tensor([True]), torch.tensor(7), torch.zeros(())]
)
def test_finite_values_of_any_kind_are_sound(value: Tensor) -> None:
    check_finite({"w": value}, Path("w.pt"))


def test_a_file_that_cannot_be_written_to_its_end_is_an_error_of_the_system(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_weights({"weight": torch.zeros(100_000)}, tmp_path / "w.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "w.safetensors")
