"""Paths and URLs given on the command line."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from search.errors import ConfigError
from trainables.errors import Finding

# Below the working directory.
DEFAULT_STORAGE = "runs"


def is_url(storage: str) -> bool:
    """Whether ``--storage`` names a file system by a URL and no folder."""
    return "://" in storage


def expand_path(text: str) -> Path:
    """Returns a path of the command line made absolute.

    Raises:
        ConfigError: If it can be no path: empty, the home of a user that is unknown, links in a circle, too long, with
            a NUL in it, or not UTF-8, which weights cannot be written to.
    """
    if not text:
        raise ConfigError([Finding('""', "a path is empty", "write it out; a variable of the shell may be unset")])
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        what = f"there is no user {expanded.partition('/')[0][1:]}"
        raise ConfigError([Finding(text, what, f"write the path out, or ./{text} for a name with a ~")])
    try:
        path = os.path.realpath(expanded)  # Path.resolve raises an error of its own on links in a circle
    except OSError as error:
        raise ConfigError([Finding(text, "the working directory is gone", "change to another one")]) from error
    except ValueError as error:
        raise ConfigError([Finding(ascii(text), f"is no path ({error})", "check the path")]) from error
    try:
        path.encode()
        os.stat(path)
    except UnicodeEncodeError as error:
        what = f"is not UTF-8: {ascii(path)}"
        raise ConfigError([Finding(ascii(text), what, "rename it, or choose another path")]) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError([Finding(f"{text[:80]}...", "is too long for a path", "check the path")]) from error
        if error.errno == errno.ELOOP:
            what = "is a link that leads back to itself, or lies below one"
            raise ConfigError([Finding(text, what, "remove the link, or choose another path")]) from error
    return Path(path)


def locate_storage(storage: str) -> Path:
    """Returns the folder of all searches: under a URL lie their checkpoints, beside which each has its own folder."""
    return expand_path(DEFAULT_STORAGE if is_url(storage) else storage)


def hide_password(uri: str) -> str:
    """Returns the URI with the password in it, if any, as asterisks."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)
