"""Folders that commands make, and why some cannot be."""

import os
from pathlib import Path

import pytest

from search.command_line.out_folder import check_out, fill_out
from search.errors import ConfigError, SearchError

LONG = "\u75c5" * 85  # 255 bytes, the most that a file system takes: without room for the partial folder's own name


@pytest.mark.parametrize("name", ["new", "empty", "a/b/new", LONG])
def test_a_new_or_empty_folder_can_be_made(name: str, tmp_path: Path) -> None:
    """One that is there stays the same: it may be a mounted disk, or lie where nothing may be made."""
    (tmp_path / "empty").mkdir()
    before = (tmp_path / "empty").stat().st_ino
    assert not check_out(tmp_path / name)
    with fill_out(tmp_path / name) as partial:
        (partial / "a").write_text("")
        (partial / "below").mkdir()
        assert partial.parent == tmp_path / name if name == "empty" else not (tmp_path / name).exists()
    assert {path.name for path in (tmp_path / name).iterdir()} == {"a", "below"}
    assert {path.name for path in (tmp_path / name).parent.iterdir()} <= {"new", "empty", LONG}  # and nothing half made
    assert (tmp_path / "empty").stat().st_ino == before


@pytest.mark.parametrize("name", ["new", "empty"])
def test_what_fails_half_way_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyError), fill_out(tmp_path / name) as partial:
        (partial / "a").write_text("")
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_new_folder_is_open_to_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with fill_out(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_place_that_is_taken_meanwhile_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="out cannot be written: "), fill_out(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("kept")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


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
def test_what_cannot_be_made_is_reported(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    os.mkfifo(tmp_path / "pipe")
    (finding,) = check_out(tmp_path / name)
    assert finding.where == f"--out {tmp_path / name}" and what in finding.what


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_what_the_system_refuses_is_reported(out: str) -> None:
    if not Path(out).parent.exists():
        pytest.skip("not on this system")
    with pytest.raises(ConfigError, match="cannot be made"), fill_out(Path(out)):
        raise AssertionError("it was made")
