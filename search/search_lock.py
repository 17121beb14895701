"""One process at a time works in a search's folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.damage import tell_damaged_record
from search.errors import ConfigError
from trainables.errors import Finding

LOCK_FILE = ".running"


@contextmanager
def hold_search(folder: Path) -> Iterator[None]:
    """Holds a search's folder; the system gives it back when the process ends, however it ends.

    Raises:
        ConfigError: If another process runs the search, or the file that says so cannot be opened.
    """
    path = folder / LOCK_FILE
    with tell_damaged_record(path, "it must be a file that you may write: remove what is there"):
        opened = path.open("a+", encoding="utf-8", errors="replace")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            fix = "wait for its end, or stop it with Ctrl-C"
            raise ConfigError([Finding(str(folder), f"the search is being run by {owner}", fix)]) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
