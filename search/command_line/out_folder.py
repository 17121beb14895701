"""The folder that a command makes: filled under another name, and renamed when it is complete."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.errors import ConfigError, SearchError
from trainables.errors import Finding

_FIX = "choose another folder"
_NAME_PART = 40  # letters of the name that the partial folder's name repeats: all of them could be too long


def check_out(out: Path) -> list[Finding]:
    """Returns why a folder cannot be made: it must not exist yet, or be empty."""
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
def refuse_unmade(out: Path) -> Iterator[None]:
    """Turns the error of a block that makes the folder into a finding."""
    try:
        yield
    except OSError as error:
        raise ConfigError.at(f"--out {out}", f"cannot be made: {error.strerror or error}", _FIX) from error


@contextmanager
def fill_out(out: Path) -> Iterator[Path]:
    """Yields a folder to fill, whose content becomes that of ``out``; an error in the block leaves nothing behind.

    A new ``out`` appears when it is complete. An empty one stays, as it may be a mounted disk: files are moved into it.

    Raises:
        ConfigError: If the folder cannot be made.
        SearchError: If the files cannot be moved to their place.
    """
    exists = out.exists()
    above = out if exists else out.parent
    with refuse_unmade(out):
        above.mkdir(parents=True, exist_ok=True)
        partial = above / f".{out.name[:_NAME_PART]}-{uuid.uuid4().hex}"  # mkdtemp would leave others out
        partial.mkdir()
    try:
        yield partial
        try:
            if exists:
                for path in sorted(partial.iterdir()):
                    path.rename(out / path.name)
            else:
                partial.rename(out)
        except OSError as error:
            raise SearchError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already if it was renamed
