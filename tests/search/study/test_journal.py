"""What a kill can leave in a journal is removed; what is damaged otherwise is refused and kept."""

import os
import time
from pathlib import Path

import pytest
from optuna.trial import create_trial

from search.errors import SearchError
from search.study.journal import drop_torn_line, remove_stale_lock, undo_if_torn, undo_torn_lines
from search.study.study_file import StudyFile


def add_trial(journal: Path) -> int:
    """Adds a trial to the study; returns how many another process then finds."""
    StudyFile(journal, "s").open().add_trial(create_trial(value=0.5))
    return len(StudyFile(journal, "s").open().trials)


@pytest.mark.parametrize(
    "tail",
    [
        b'{"op_code":4,"worker',  # cut off
        b'{"op_code":4,"worker_id":"w"}',  # whole, but for its line end
        b"\0" * 512,  # what a file system may leave after a power cut
        b'{"op_c{"op_code":4,"worker_id":"w"}\n',  # an append that merged with a torn line
    ],
)
def test_drops_a_torn_last_line(journal: Path, tail: bytes) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    drop_torn_line(journal)
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + tail)
    assert add_trial(journal) == 4
    journal.with_name("new").write_bytes(b'{"op_c')  # a torn first line, too
    assert add_trial(journal.with_name("new")) == 1


@pytest.mark.parametrize("line", [b'{"op_code":', b"[" * 100_000])
def test_names_a_damaged_line_and_leaves_the_file_alone(journal: Path, line: bytes) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], line, b"\n", *lines[2:]])
    journal.write_bytes(damaged)
    with pytest.raises(SearchError, match=r"study\.journal:3: damaged line"):
        StudyFile(journal, "s").open()
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"notes of mine", b"# notes\nof mine\n", b"\x89PNG\r\n"])
def test_refuses_and_keeps_a_file_that_is_no_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(SearchError, match="not a journal"):
        StudyFile(path, "s").open()
    assert path.read_bytes() == content


def test_lines_that_were_being_written_are_removed(journal: Path) -> None:
    whole = journal.read_bytes()
    with pytest.raises(KeyboardInterrupt), undo_if_torn(journal):
        journal.write_bytes(whole + b"more")
        raise KeyboardInterrupt
    undo_torn_lines(journal)
    undo_torn_lines(journal)
    assert journal.read_bytes() == whole


@pytest.mark.parametrize("note", [b"", b"\0\0\0", b"-1", b"x", b"1_0", b"1.0", b"\xff", b"9" * 9, b"9" * 9999])
def test_refuses_a_note_that_is_no_length_of_the_journal(journal: Path, note: bytes) -> None:
    whole, mark = journal.read_bytes(), journal.with_name("study.journal.undo")
    mark.write_bytes(note)
    with pytest.raises(SearchError, match=r"study\.journal\.undo is damaged: .* from 0 to \d+ bytes"):
        undo_torn_lines(journal)
    assert journal.read_bytes() == whole and mark.exists()


def test_refuses_a_note_that_cannot_be_read_or_whose_journal_is_gone(journal: Path) -> None:
    mark = journal.with_name("study.journal.undo")
    mark.mkdir()
    with pytest.raises(SearchError, match=r"study\.journal\.undo notes cannot be taken back"):
        undo_torn_lines(journal)
    mark.rmdir()
    mark.write_text("5")
    journal.unlink()
    with pytest.raises(SearchError, match="from 0 to 0 bytes"):
        undo_torn_lines(journal)


@pytest.mark.parametrize(("age_s", "removed"), [(61.0, True), (30.0, False)])
def test_removes_only_a_stale_lock(journal: Path, age_s: float, removed: bool) -> None:
    lock = journal.with_name("study.journal.lock")
    lock.symlink_to(journal)
    then = time.time() - age_s
    os.utime(lock, (then, then), follow_symlinks=False)
    remove_stale_lock(journal)
    assert lock.is_symlink() != removed


def test_opens_at_once_past_a_stale_lock(journal: Path) -> None:
    lock = journal.with_name("study.journal.lock")
    lock.symlink_to(journal)
    os.utime(lock, (0, 0), follow_symlinks=False)
    start = time.monotonic()
    add_trial(journal)
    assert time.monotonic() - start < 5.0
