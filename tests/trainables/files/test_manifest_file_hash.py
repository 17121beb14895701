"""Digests of files, against the standard's own examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.files.manifest import hash_file


@pytest.mark.parametrize(
    ("content", "digest"),
    [  # FIPS 180-2, appendix B, and the empty message
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_digests_of_the_standard(tmp_path: Path, content: bytes, digest: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == digest


def test_files_longer_than_a_block_count_to_their_last_byte(tmp_path: Path) -> None:
    for name, end in (("a", b"x"), ("b", b"y")):
        (tmp_path / name).write_bytes(bytes(3 << 20) + end)
    assert hash_file(tmp_path / "a") != hash_file(tmp_path / "b")
