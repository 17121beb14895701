"""Paths and URLs given on the command line."""

import os
import re
from pathlib import Path

from search.errors import ConfigError

# Below the working directory.
DEFAULT_STORAGE = "runs"


def is_url(storage: str) -> bool:
    """Whether ``--storage`` names a file system by a URL and no folder."""
    return "://" in storage


def expand_path(text: str) -> Path:
    """Returns a path of the command line: absolute, links followed, ``~`` expanded.

    Raises:
        ConfigError: If no path can be made of it: it is empty, not UTF-8, a circle of links ...
    """
    try:
        if not text:
            raise ValueError("it is empty; a variable of the shell may be unset")
        expanded = os.path.expanduser(text)
        if expanded.startswith("~"):
            raise ValueError(f"there is no user {expanded[1:].partition(os.sep)[0]}")
        path = Path(expanded).resolve()
        str(path).encode()  # PyTorch writes weights to UTF-8 paths alone
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        raise ConfigError.at(repr(text), f"cannot be used as a path: {error}", "check the path") from error
    return path


def make_absolute(text: str) -> str:
    """Returns a path that exists as an absolute one; a hub id stays as it is."""
    path = expand_path(text)
    return str(path) if path.exists() else text


def locate_storage(storage: str) -> Path:
    """Returns the folder of all searches; a URL holds checkpoints alone, and the folders lie in ``runs``."""
    return expand_path(DEFAULT_STORAGE if is_url(storage) else storage)


def has_password(uri: str) -> bool:
    """Says whether a URI holds a password, which must not be written down."""
    return hide_password(uri) != uri


def hide_password(uri: str) -> str:
    """Returns the URI with the passwords in it, if any, as asterisks: before the host, and among the query."""
    # To the last @, as a password may hold @ and /; behind a host and its port comes a path.
    uri = re.sub(r"(://[^:/@\s]*):(?!\d+(?:/|$|\s))\S*@", r"\1:***@", uri)
    return re.sub(r"([?&]\w*(?:password|passwd|pwd|token|secret|sig)=)[^&#\s]*", r"\1***", uri, flags=re.IGNORECASE)
