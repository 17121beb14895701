"""A checkpoint's folder is whole, or a kill left some of it."""

from pathlib import Path

import pytest

from trainables.errors import CheckpointError
from trainables.files.manifest import MANIFEST_FILE, hash_file, is_whole, seal_checkpoint


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint_000000"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights").write_bytes(b"0123456789")
    (folder / "recipe.json").write_text("{}")
    seal_checkpoint(folder)
    return folder


@pytest.mark.parametrize("name", ["adapter/weights", "recipe.json", MANIFEST_FILE])
def test_a_file_that_is_cut_short_blank_or_missing_is_noticed(sealed: Path, name: str) -> None:
    path, whole = sealed / name, (sealed / name).read_bytes()
    assert is_whole(sealed) and not is_whole(sealed / "nothing")
    for content in (b"", whole[:1], *([bytes(len(whole))] if name != MANIFEST_FILE else [])):
        path.write_bytes(content)
        assert not is_whole(sealed)
    path.unlink()
    assert not is_whole(sealed)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "null", '{"recipe.json": 2, "adapter/weights": 10}', '{"recipe.json": "sha1"}', "[" * 100_000],
)
def test_a_list_of_another_version_is_reported(sealed: Path, content: str) -> None:
    (sealed / MANIFEST_FILE).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        is_whole(sealed)
    assert caught.value.findings[0].where == str(sealed / MANIFEST_FILE)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(116, "stale file handle")])
def test_a_file_that_cannot_be_read_is_reported(sealed: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(path: Path) -> str:
        raise error

    monkeypatch.setattr("trainables.files.manifest.hash_file", fail)
    with pytest.raises(CheckpointError, match=str(error.strerror)):
        is_whole(sealed)


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
