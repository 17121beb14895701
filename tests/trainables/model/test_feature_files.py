import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainables.model.feature_files import FeatureFiles

TENSORS = {"tokens": torch.rand(1, 4, 4, 8), "level_0": torch.rand(1, 8, 8, 4).bfloat16()}
N_BYTES = sum(value.nbytes for value in TENSORS.values())


def test_what_one_process_wrote_others_read_bit_for_bit(tmp_path: Path) -> None:
    FeatureFiles(tmp_path / "set").write("a", TENSORS)
    found = FeatureFiles(tmp_path / "set").read("a")
    assert found is not None and all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a"]  # nothing unfinished is left


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_a_missing_or_damaged_file_is_written_anew(tmp_path: Path, content: bytes | None) -> None:
    files = FeatureFiles(tmp_path)
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    assert files.read("a") is None
    files.write("a", TENSORS)
    assert load_file(tmp_path / "a").keys() == TENSORS.keys()


def test_at_the_bound_nothing_more_is_written_unless_a_set_is_out_of_use(tmp_path: Path) -> None:
    old = FeatureFiles(tmp_path / "old", max_bytes=10 * N_BYTES)
    for number in range(4):
        old.write(str(number), TENSORS)
    files = FeatureFiles(tmp_path / "new", max_bytes=6 * N_BYTES)  # a file is a little larger than its tensors
    for number in range(4):
        files.write(str(number), TENSORS)
    assert files.read("0") is not None and files.read("3") is None
    assert old.read("3") is not None

    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / "old", (long_ago, long_ago))
    FeatureFiles(tmp_path / "old")  # whoever opens a set uses it
    FeatureFiles(tmp_path / "new", max_bytes=6 * N_BYTES).write("3", TENSORS)
    assert (tmp_path / "old").is_dir() and files.read("3") is None
    os.utime(tmp_path / "old", (long_ago, long_ago))
    FeatureFiles(tmp_path / "new", max_bytes=6 * N_BYTES).write("3", TENSORS)
    assert not (tmp_path / "old").exists() and files.read("3") is not None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = FeatureFiles(tmp_path / "file" / "set")
    files.write("a", TENSORS)
    assert files.read("a") is None
