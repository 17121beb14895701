"""Folders that commands make, and why some cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.out_folder import check_out, make_partial


@pytest.mark.parametrize("name", ["new", "empty", "a/b/new"])
def test_a_new_or_empty_folder_can_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not check_out(tmp_path / name)
    partial = make_partial(tmp_path / name)
    assert partial.is_dir() and partial.parent == (tmp_path / name).parent


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("file", "exists and is no folder"),
        ("pipe", "exists and is no folder"),
        ("full", "exists and is not empty"),
        ("file/x", "file is no folder"),
        ("file/x/y", "file is no folder"),
        ("a" * 300, "cannot be made"),
    ],
)
def test_what_cannot_be_made_is_told(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    os.mkfifo(tmp_path / "pipe")
    (finding,) = check_out(tmp_path / name)
    assert finding.where == f"--out {tmp_path / name}" and what in finding.what


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_what_the_system_refuses_is_told(out: str) -> None:
    if not Path(out).parent.exists():
        pytest.skip("not on this system")
    with pytest.raises(ConfigError, match="cannot be made"):
        make_partial(Path(out))


def test_a_long_name_leaves_room_for_the_partial_folders_own(tmp_path: Path) -> None:
    name = "\u75c5" * 85  # 255 bytes, the most that a file system takes
    assert not check_out(tmp_path / name)
    make_partial(tmp_path / name).rename(tmp_path / name)
