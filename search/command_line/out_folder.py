"""The folder that a command makes: filled under another name, and in its place when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.errors import ConfigError, SearchError
from trainables.errors import Finding

_FIX = "choose another folder"
_NAME_PART = 40  # letters of the folder's name in that of the partial one: more could make it too long


def check_out(out: Path) -> list[Finding]:
    """Returns why a folder cannot be made, as far as looking tells: it must not exist, or be an empty folder."""
    where = f"--out {out}"
    try:
        above = next(path for path in (out, *out.parents) if path.exists())
        if not above.is_dir():
            what = "exists and is no folder" if above == out else f"cannot be made: {above} is no folder"
            return [Finding(where, what, _FIX)]
        if above == out and any(out.iterdir()):
            return [Finding(where, "exists and is not empty", "name a new folder")]
    except OSError as error:
        return [Finding(where, f"cannot be made: {error.strerror or error}", _FIX)]
    return []


@contextmanager
def fill_out(out: Path) -> Iterator[Path]:
    """Yields a folder to be filled, whose content is ``out``'s afterwards; where anything is raised, nothing is left.

    A new ``out`` appears whole. An empty one that exists may be a mounted disk, or lie where nothing else may be made:
    it stays, and the files are moved into it.

    Raises:
        ConfigError: If the folder cannot be made.
        SearchError: If the files cannot be moved to their place.
    """
    exists = out.exists()
    try:
        above = out if exists else out.parent
        above.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name[:_NAME_PART]}-", dir=above))
    except OSError as error:
        what = f"cannot be made: {error.strerror or error}"
        raise ConfigError([Finding(f"--out {out}", what, _FIX)]) from error
    try:
        yield partial
        try:
            if exists:
                for path in sorted(partial.iterdir()):
                    path.rename(out / path.name)
            else:
                partial.chmod(0o755)
                partial.rename(out)
        except OSError as error:
            raise SearchError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already where a new folder went well
