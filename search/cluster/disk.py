"""Recognizes a full or read-only disk in any error, and describes it in one sentence."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from search.command_line.paths import is_url
from search.errors import SearchError

# No more room, over quota, a file system that became read-only, no permission.
_STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_STORAGE_WORDS = tuple(os.strerror(number) for number in _STORAGE_ERRNOS)
# What to do about a place that cannot be written: a folder, or a URL.
MAKE_ROOM = "make room there (or change its permissions or quota)"
_LOOK = "look whether it can be reached (or change its permissions or quota)"


class StorageError(SearchError):
    """The search's files cannot be written; nothing is lost, and the search goes on when they can."""


def probe_storage(folder: Path) -> str:
    """Returns why a folder cannot hold a search, by doing in it what a search does: writing, adding, renaming."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    renamed = probe.with_name(f"{probe.name}-renamed")
    try:
        probe.mkdir()
        for name in ("new", "old"):
            (probe / name).write_bytes(bytes(2**18))
        (probe / "new").replace(probe / "old")
        with (probe / "old").open("ab") as file:
            file.write(b"more")
        probe.rename(renamed)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for path in (probe, renamed):
            shutil.rmtree(path, ignore_errors=True)
    return ""


def describe_fault(words: str, folder: str, probed: str) -> str:
    """Returns what to do about a disk's error in its words, and about why a folder cannot be written by its probe.

    The error may be of another place, which the words then name: weights or images that cannot be read, a full shared
    memory. Empty where there is neither.
    """
    if probed or (words and (folder in words or "/" not in words)):
        return f"{folder} cannot be written: {probed or words}; {_LOOK if is_url(folder) else MAKE_ROOM}"
    if "</torch_" in words:
        return f"the shared memory (/dev/shm) is full: {words}; give the container more, in Docker by --shm-size=8g"
    return f"{words}; {MAKE_ROOM}" if words else ""


def to_storage_error(error: BaseException, folder: str) -> StorageError | None:
    """Returns the error to report for a search that a disk stopped; None where something else did.

    Tune wraps errors of callbacks in its own.
    """
    for each in _list_causes(error):
        if isinstance(each, StorageError):
            return each
    words = find_storage_error(error)
    probed = probe_storage(Path(folder)) if words and Path(folder).is_dir() else ""
    return StorageError(describe_fault(words, folder, probed)) if words else None


def find_storage_error(error: BaseException) -> str:
    """Returns the words and place of a disk's error, where an error or one of its causes is one; else nothing."""
    from ray.exceptions import RayError  # late: the pre-flight and the export need no Ray, whose import costs seconds
    from ray.tune.error import TuneError

    for each in _list_causes(error):
        if isinstance(each, OSError) and each.errno in _STORAGE_ERRNOS:
            return f"{each.strerror}" + (f" ({each.filename})" if each.filename else "")
        # These keep only the text of the error that they wrap.
        if isinstance(each, (TuneError, RayError)) and (words := find_storage_words(str(each))):
            return words
    return ""


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, then each cause of the one before."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def find_storage_words(text: str) -> str:
    """Returns the last line of a text that holds the operating system's words for a disk's error; else nothing."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line[:500] for line in lines if any(words in line for words in _STORAGE_WORDS)), "")
