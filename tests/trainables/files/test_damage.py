"""Whatever a damaged file holds, its name is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables.errors import CheckpointError, DataError, Finding, InputError
from trainables.files.damage import tell_damage


@pytest.mark.parametrize("content", ["", "\0\0\0", "[]", "null", "5", "{}", '{"a": [1e400]}', "[" * 100_000])
def test_what_is_read_of_a_damaged_file_is_told_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(CheckpointError) as caught, tell_damage(path, "export it again", CheckpointError):
        int(json.loads(path.read_text())["a"][0])
    (finding,) = caught.value.findings
    assert finding.where == str(path) and finding.fix == "export it again"
    assert finding.what.startswith("cannot be read: ") and len(finding.what) < 300


def test_a_missing_file_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FileNotFoundError"), tell_damage(tmp_path / "none", "look"):
        (tmp_path / "none").read_text()


@pytest.mark.parametrize(
    "error", [DataError([Finding("a", "b", "c")]), KeyboardInterrupt(), MemoryError(), AssertionError("ours")]
)
def test_other_errors_pass(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, tell_damage(tmp_path, "look"):
        raise error
    assert caught.value is error
