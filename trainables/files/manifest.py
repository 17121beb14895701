"""A list of hashes beside a checkpoint, by which incomplete or damaged files are recognized."""

import hashlib
import json
import re
from pathlib import Path

from trainables.errors import CheckpointError

MANIFEST_FILE = "files.json"
_DIGEST = re.compile("[0-9a-f]{64}")

_BLOCK = 1 << 20


def seal_checkpoint(folder: Path) -> None:
    """Writes ``files.json`` with the SHA-256 of every file; call it when all of them are written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    (folder / MANIFEST_FILE).write_text(json.dumps(digests, indent=1))


def is_whole(folder: Path) -> bool:
    """Returns whether every sealed file is there and holds what it held; False if none was sealed.

    Raises:
        CheckpointError: If the list is of another version, or a file may not be read.
    """
    path = folder / MANIFEST_FILE
    try:
        digests = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # not yet written, or cut short
        return False
    except (OSError, RecursionError) as error:
        raise _refuse(path, f"cannot be read: {type(error).__name__}: {error}") from error
    if not _is_manifest(digests):
        raise _refuse(path, "lists no files with their SHA-256: it is of another version")
    try:
        return all(hash_file(folder / name) == digest for name, digest in digests.items())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _refuse(folder, f"cannot be read: {type(error).__name__}: {error}") from error


def _is_manifest(digests: object) -> bool:
    if not isinstance(digests, dict) or not digests:
        return False
    return all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests.values())


def _refuse(path: Path, what: str) -> CheckpointError:
    fix = "make it readable, or move the checkpoint's folder away; nothing was deleted"
    return CheckpointError.at(path, what, fix)


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits; a file of any size is read in blocks.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
