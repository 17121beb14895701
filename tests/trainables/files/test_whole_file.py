"""A file is replaced whole, and an interrupted write leaves the earlier one."""

import os
import resource
import time
from pathlib import Path

import pytest

from trainables.files.whole_file import cut_torn_line, write_whole


def test_text_is_written_as_it_is_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "first\r\n")
    write_whole(tmp_path / "a.csv", "Gewebe \u00fc,1\r\n")
    assert (tmp_path / "a.csv").read_bytes() == "Gewebe \u00fc,1\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_what_cannot_be_written_or_put_in_place_leaves_all_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "{}")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.json", "half \ud800")
    assert (tmp_path / "a.json").read_text() == "{}"
    (tmp_path / "b.json").mkdir()
    with pytest.raises(OSError, match="b.json"):
        write_whole(tmp_path / "b.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}


def test_the_disk_has_the_text_before_the_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def note(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr("os.fsync", note)
    path = tmp_path / "a.json"
    write_whole(path, "whole")
    assert synced == [(5, False)]


def test_two_can_write_one_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, path = os.fsync, tmp_path / "a.json"

    def let_another_write(descriptor: int) -> None:
        monkeypatch.setattr("os.fsync", sync)
        write_whole(path, "another's")
        assert path.read_text() == "another's"

    monkeypatch.setattr("os.fsync", let_another_write)
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "hours", "stays"), [(f".{'0' * 32}", 1, True), (f".{'0' * 32}", 100, False), (".film", 100, True)]
)
def test_what_killed_processes_left_is_removed_after_a_day(tmp_path: Path, name: str, hours: int, stays: bool) -> None:
    partial, then = tmp_path / f"{name}.partial", time.time() - hours * 3600
    partial.write_text("hal")
    os.utime(partial, (then, then))
    write_whole(tmp_path / "a.json", "{}")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json"} | ({partial} if stays else set())


@pytest.mark.parametrize(
    ("content", "left"), [("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", ""), ("", ""), ("\n\n", "\n\n")]
)
def test_what_is_no_whole_line_is_cut_off(tmp_path: Path, content: str, left: str) -> None:
    path = tmp_path / "lines.jsonl"
    assert not cut_torn_line(path) and not path.exists()
    path.write_text(content)
    assert cut_torn_line(path) == (content != left)
    assert path.read_text() == left


def test_a_full_disk_costs_no_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("a\nb")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))  # no byte can be written to any file
    try:
        assert cut_torn_line(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "a\n"
