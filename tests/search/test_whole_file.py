"""A file is replaced whole, and an interrupted write leaves the earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.whole_file import cut_torn_line, write_whole


def test_text_is_written_as_it_is_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "first\r\n")
    write_whole(tmp_path / "a.csv", "Gewebe \u00fc,1\r\n")
    assert (tmp_path / "a.csv").read_bytes() == "Gewebe \u00fc,1\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "{}")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.json", "half \ud800")
    assert (tmp_path / "a.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("content", "left"), [("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", ""), ("", ""), ("\n\n", "\n\n")]
)
def test_what_is_no_whole_line_is_cut_off(tmp_path: Path, content: str, left: str) -> None:
    path = tmp_path / "lines.jsonl"
    assert not cut_torn_line(path) and not path.exists()
    path.write_text(content)
    assert cut_torn_line(path) == (content != left)
    assert path.read_text() == left
