"""A search's folder is found by name, and worked in by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.layout import HELD_FILE, LOCK_FILE, RECORD_FILE, find_run, hold_search

HOLD = """
import sys, time
from pathlib import Path
from search.run_folder.layout import hold_search
with hold_search(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_one_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline() == "held\n"
            with pytest.raises(ConfigError, match=f"is being run by process {owner.pid} on "):
                with hold_search(tmp_path):
                    pass
        finally:
            owner.send_signal(signal.SIGKILL)
    with hold_search(tmp_path):
        pass
    with hold_search(tmp_path):
        pass


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without flock, as Lustre is often mounted."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_a_file_holds_the_search(tmp_path: Path, no_locks: None) -> None:
    with hold_search(tmp_path):
        with pytest.raises(ConfigError, match=f"by process {os.getpid()} on .* remove {tmp_path / HELD_FILE}"):
            with hold_search(tmp_path):
                pass
    assert not (tmp_path / HELD_FILE).exists()


@pytest.mark.parametrize(("host", "is_free"), [("", True), ("x", False)])
def test_what_a_killed_process_left_is_taken_over_on_its_machine_alone(
    tmp_path: Path, no_locks: None, host: str, is_free: bool
) -> None:
    (tmp_path / HELD_FILE).write_text(f"process 4194305 on {os.uname().nodename}{host}")  # above every process id
    with contextlib.nullcontext() if is_free else pytest.raises(ConfigError, match="is being run by"):
        with hold_search(tmp_path):
            assert (tmp_path / HELD_FILE).read_text().startswith(f"process {os.getpid()} ")


def test_what_is_no_file_in_its_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(ConfigError, match=r"\.running: cannot be opened: Is a directory"), hold_search(tmp_path):
        pass


def test_an_owner_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(b"\xff\xfe")
    with (tmp_path / LOCK_FILE).open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being run by"), hold_search(tmp_path):
            pass


def begin(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / RECORD_FILE).write_text("{}")
    return folder


def test_a_search_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin(tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    assert find_run(tmp_path / "runs", "first") == folder
    assert find_run(tmp_path / "runs", str(folder)) == folder
    assert find_run(tmp_path / "elsewhere", "runs/first") == folder


def test_an_unknown_search_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--run nine: no such search -> .* holds no searches"):
        find_run(tmp_path, "nine")
    for name in ("second", "first"):
        begin(tmp_path / name)
    with pytest.raises(ConfigError, match="known are: first, second"):
        find_run(tmp_path, "nine")
