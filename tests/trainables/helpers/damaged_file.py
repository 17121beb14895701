"""What can happen to a file of a checkpoint."""

from collections.abc import Iterator
from pathlib import Path


def damage(path: Path) -> Iterator[None]:
    """Leaves a file missing, cut off, empty, or full of something else, one after the other; then as it was."""
    whole = path.read_bytes()
    for content in (whole[:-5], b"", bytes(4000), b"[]", b"null", b"5", b"[" * 100_000):
        path.write_bytes(content)
        yield
    path.unlink()
    yield
    path.write_bytes(whole)
