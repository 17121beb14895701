"""Checkpoints below a URL, and their copies in the search's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.cluster.checkpoint_storage import CheckpointStorage, check_url
from search.errors import ConfigError
from trainables.errors import CheckpointError
from trainables.files.manifest import is_whole, seal_checkpoint


def write_checkpoint(folder: Path, text: str) -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights").write_text(text)
    seal_checkpoint(folder)
    return folder


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """What lies under the URL of the search ``job``, in a name that globs and URLs may trip over."""
    folder = tmp_path / "far [a] #1%20 ü" / "job" / "trials"
    folder.mkdir(parents=True)
    return folder


def open_storage(tmp_path: Path, far: Path) -> CheckpointStorage:
    return CheckpointStorage(tmp_path / "runs" / "job", f"file://{far.parents[1]}")


def test_copies_become_what_lies_under_the_url(tmp_path: Path, far: Path) -> None:
    trial = tmp_path / "runs" / "job" / "trials" / "trial-a"
    write_checkpoint(far / "trial-a" / "checkpoint_000001", "second")
    write_checkpoint(far / "trial-b" / "checkpoint_000000", "other")
    outdated = write_checkpoint(trial / "checkpoint_000000", "first")
    torn = write_checkpoint(trial / "checkpoint_000001", "second")
    (torn / "adapter" / "weights").write_text("sec")
    open_storage(tmp_path, far).fetch("trials", "a")
    assert not outdated.exists()
    assert is_whole(torn) and (torn / "adapter" / "weights").read_text() == "second"
    assert {path.name for path in trial.iterdir()} == {"checkpoint_000001"}
    assert not (trial.parent / "trial-b").exists()
    open_storage(tmp_path, far).fetch("trials")
    assert (trial.parent / "trial-b" / "checkpoint_000000" / "adapter" / "weights").read_text() == "other"


def test_a_torn_checkpoint_is_cleared_away_and_copies_stay_where_nothing_whole_is_left(
    tmp_path: Path, far: Path
) -> None:
    torn = write_checkpoint(far / "trial-a" / "checkpoint_000001", "second")
    os.remove(torn / "files.json")
    copy = write_checkpoint(tmp_path / "runs" / "job" / "trials" / "trial-a" / "checkpoint_000000", "first")
    open_storage(tmp_path, far).fetch("trials")
    assert not torn.exists() and is_whole(copy)
    assert {path.name for path in copy.parent.iterdir()} == {"checkpoint_000000"}


def test_a_user_s_copies_stay_on_both_sides(tmp_path: Path, far: Path) -> None:
    write_checkpoint(far / "trial-a" / "checkpoint_000001", "second")
    trial = tmp_path / "runs" / "job" / "trials" / "trial-a"
    copies = [write_checkpoint(place / "checkpoint_000001.bak", "mine") for place in (far / "trial-a", trial)]
    for copy in copies:
        (copy / "files.json").unlink()
    open_storage(tmp_path, far).fetch("trials")
    assert all(copy.is_dir() for copy in copies) and is_whole(trial / "checkpoint_000001")


def test_a_checkpoint_of_another_version_is_an_error_and_stays(tmp_path: Path, far: Path) -> None:
    manifest = write_checkpoint(far / "trial-a" / "checkpoint_000001", "second") / "files.json"
    manifest.write_text('{"adapter/weights": 6}')
    with pytest.raises(CheckpointError, match="of another version"):
        open_storage(tmp_path, far).fetch("trials")
    assert manifest.is_file()


def test_without_a_url_nothing_is_fetched(tmp_path: Path) -> None:
    storage = CheckpointStorage(tmp_path)
    storage.fetch("trials")
    assert storage.to_run_config() == {"storage_path": str(tmp_path), "storage_filesystem": None}
    assert storage.probe() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nowhere://bucket/a", "no file system is known as nowhere"),
        ("memory://a", "lies in one process"),
        ("sftp://someone:secret@host/a", "holds a password"),
        ("file:///tmp?password=secret", "holds a password"),
        ("abfs://data@acct.dfs.core.windows.net/searches", "not installed"),  # the usual form, with no password
        ("dropbox://a", "not installed"),
        ("file:///proc/nothing/a", "cannot be written"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_finding(url: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert what in str(caught.value) and "secret" not in str(caught.value)


def test_a_url_that_can_be_used_is_left_as_it_was(tmp_path: Path) -> None:
    check_url(f"file://{tmp_path / 'new'}", "first")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_name_that_another_search_has_used_there_is_taken(tmp_path: Path, far: Path) -> None:
    url = f"file://{far.parents[1]}"
    check_url(url, "job")
    write_checkpoint(far / "trial-a" / "checkpoint_000000", "any")
    check_url(url)
    check_url(url, "job-2")
    with pytest.raises(ConfigError, match="--name job: holds checkpoints of another search"):
        check_url(url, "job")
