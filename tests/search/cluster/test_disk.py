"""A full disk is recognized in errors, and in their causes."""

import errno
from pathlib import Path

import pytest
from ray.tune.error import TuneError

from search.cluster.disk import StorageError, find_storage_error, probe_storage, to_storage_error

FULL = OSError(errno.ENOSPC, "No space left on device", "/runs/a/study.journal")


def wrap(error: Exception, outer: Exception) -> Exception:
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (wrap(FULL, RuntimeError("tune failed")), "No space left on device (/runs/a/study.journal)"),
        (TuneError("...\nOSError: [errno 28] No space left on device"), "OSError: [errno 28] No space left on device"),
        (TuneError("ValueError: too small"), ""),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), ""),
    ],
)
def test_a_disk_is_found_among_the_causes(error: Exception, found: str) -> None:
    assert find_storage_error(error) == found
    assert (to_storage_error(error, "/runs/a") is not None) == bool(found)


IMAGE = PermissionError(errno.EACCES, "Permission denied", "/images/a.png")
LOADER = "RuntimeError: unable to write to file </torch_18692_0>: No space left on device (28)"


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (FULL, "/runs/a cannot be written: No space left on device (/runs/a/study.journal); make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "/runs/a cannot be written: No space left on device; make"),
        (IMAGE, "Permission denied (/images/a.png); make room there (or change"),
        (TuneError(f"Traceback\n{LOADER}\n"), f"the shared memory (/dev/shm) is full: {LOADER}; give the container"),
    ],
)
def test_only_a_folder_that_cannot_be_written_is_blamed(error: Exception, beginning: str) -> None:
    assert str(to_storage_error(error, "/runs/a")).startswith(beginning)


def test_what_a_callback_raised_is_found_inside_an_error_of_tune() -> None:
    raised = StorageError("s3://bucket/a cannot be written: no answer within 30 s")
    assert to_storage_error(wrap(raised, TuneError("Traceback ...")), "/runs/a") is raised


@pytest.mark.parametrize("method", ["replace", "rename", "mkdir"])
def test_a_folder_that_cannot_do_what_a_search_does_is_found(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe_storage(tmp_path) == ""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(Path, method, refuse)
    assert probe_storage(tmp_path) == "Operation not supported"
    assert not list(tmp_path.iterdir())
