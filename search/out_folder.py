"""The folder that a command makes: filled beside its place under another name, and moved there when it is whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

from search.errors import ConfigError
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


def make_partial(out: Path) -> Path:
    """Makes an empty folder beside the one to be made, on the same file system.

    Raises:
        ConfigError: If it cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name[:_NAME_PART]}-", dir=out.parent))
    except OSError as error:
        what = f"cannot be made: {error.strerror or error}"
        raise ConfigError([Finding(f"--out {out}", what, _FIX)]) from error
