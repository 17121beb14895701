"""Where Ray Tune puts a search's checkpoints: in its folder, or under a URL, from which they are fetched into it."""

import shutil
import uuid
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from pyarrow.fs import FSSpecHandler, PyFileSystem

from search.cluster.deadline import call_within
from search.cluster.disk import probe_storage
from search.command_line.paths import has_password, hide_password
from search.errors import ConfigError, SearchError
from search.run_folder.trial_folder import find_epoch, list_checkpoint_folders, locate_trial
from trainables.errors import CheckpointError
from trainables.files.manifest import is_whole

# Clients of object stores try a host that is down for minutes.
ANSWER_TIMEOUT_S = 30.0


class CheckpointStorage:
    """The checkpoints of one search.

    With a URL, Tune's workers write them there, and nothing else; the search's own folder holds copies of those that
    were kept, fetched when its trials end and when it is resumed.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        """Takes the search's folder, and the URL below which it has a folder of its name; empty for none."""
        self._folder = folder
        self._url = url
        self._filesystem: Any = None  # fsspec has no types
        self._root = str(folder)
        if url:
            self._filesystem, base = fsspec.core.url_to_fs(url)
            self._root = f"{base.rstrip('/')}/{folder.name}"

    def to_run_config(self) -> dict[str, Any]:
        """Returns ``storage_path`` and ``storage_filesystem`` of Tune's configuration."""
        filesystem = PyFileSystem(FSSpecHandler(self._filesystem)) if self._filesystem else None
        return {"storage_path": self._root, "storage_filesystem": filesystem}

    def fetch(self, trials: str, trial_id: str = "") -> None:
        """Makes the search's folder of trials hold copies of what lies under the URL; without a URL does nothing.

        With a trial's id (Ray's) it fetches that trial alone.

        Raises:
            SearchError: If what is there cannot be read.
            CheckpointError: If the manifest of one is of an unknown kind; the checkpoint stays.
        """
        if self._filesystem is None:
            return
        place = f"{self._root}/{trials}"
        try:
            self._filesystem.invalidate_cache()
            for remote in self._list_folders(place, locate_trial(Path(), trial_id or "*").name):
                self._fetch_trial(remote, self._folder / trials / Path(remote).name)
        except CheckpointError:
            raise
        except Exception as error:  # each kind of file system has its own
            words = hide_password(" ".join(str(error).split()))[:300]
            raise SearchError(f"checkpoints cannot be fetched from {self._url}: {words}") from error

    def probe(self) -> tuple[str, str]:
        """Returns what cannot be written, the folder or the URL, and why; two empty texts where both can."""
        if what := probe_storage(self._folder):
            return str(self._folder), what
        return (self._url, what) if self._url and (what := probe_url(self._url)) else ("", "")

    def _list_folders(self, place: str, pattern: str) -> list[str]:
        try:
            found = self._filesystem.ls(place, detail=True)
        except FileNotFoundError:
            return []
        folders = sorted(entry["name"].rstrip("/") for entry in found if entry["type"] == "directory")
        return [path for path in folders if fnmatchcase(path.rpartition("/")[2], pattern)]

    def _fetch_trial(self, remote: str, folder: Path) -> None:
        whole = set()
        for checkpoint in self._list_folders(remote, "checkpoint_*"):
            name = Path(checkpoint).name
            if not find_epoch(name):  # a user's copy
                continue
            if not is_whole(folder / name):
                self._fetch_folder(checkpoint, folder / name)
            if is_whole(folder / name):
                whole.add(name)
            else:  # a kill tore it
                self._filesystem.rm(checkpoint, recursive=True)
                shutil.rmtree(folder / name)
        for _, path in list_checkpoint_folders(folder) if whole else ():
            if path.name not in whole:  # better ones have taken its place
                shutil.rmtree(path)

    def _fetch_folder(self, remote: str, folder: Path) -> None:
        partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
        partial.mkdir(parents=True)
        try:
            for file in self._filesystem.find(remote):
                target = partial / str(file).removeprefix(remote).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._filesystem.get_file(file, str(target))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def check_url(url: str, name: str = "") -> None:
    """Checks that checkpoints can be written under a URL, by writing some bytes there and reading them back.

    A search that is to begin has a name, whose folder there must be new; one that goes on gives none.

    Raises:
        ConfigError: If they cannot, or if another search of that name has left some.
    """
    where = f"--storage {hide_password(url)}"
    scheme = urlsplit(url).scheme
    known = ", ".join(sorted({"s3", "gs", "abfs", "sftp", "hdfs"} & set(fsspec.available_protocols())))
    if scheme not in fsspec.available_protocols():
        raise ConfigError.at(where, f"no file system is known as {scheme}", f"known are {known} and others")
    if scheme == "memory":
        raise ConfigError.at(where, "lies in one process, which others cannot read", "give another one")
    if has_password(url):
        what, fix = "holds a password, which would be written down", "give it by the file system's own settings"
        raise ConfigError.at(where, what, fix)
    try:
        fsspec.core.url_to_fs(url)
    except ImportError as error:
        what, fix = f"a package is not installed: {error}", "install it with pip, or give a folder"
        raise ConfigError.at(where, what, fix) from error
    except Exception as error:
        raise ConfigError.at(where, " ".join(str(error).split()), "correct the URL") from error
    if what := probe_url(url):
        fix = "make the bucket or folder, and give credentials by the file system's own settings"
        raise ConfigError.at(where, f"cannot be written: {what}", fix)
    if name:
        filesystem, base = fsspec.core.url_to_fs(url)
        if filesystem.find(f"{base.rstrip('/')}/{name}"):
            what = f"holds checkpoints of another search of that name: {url.rstrip('/')}/{name}"
            raise ConfigError.at(f"--name {name}", what, "choose another name")


def probe_url(url: str) -> str:
    """Returns why nothing can be written under a URL; empty where it can."""

    def write() -> None:
        filesystem, base = fsspec.core.url_to_fs(url)
        # A bucket is not made, as its name may be mistyped; a folder is.
        top = base.lstrip("/").partition("/")[0]
        if not base.startswith("/"):
            try:
                filesystem.info(top)  # not exists(), which says no where nobody answers
            except FileNotFoundError as error:
                raise OSError(f"{top} does not exist") from error
        filesystem.makedirs(base, exist_ok=True)
        path = f"{base.rstrip('/')}/.probe-{uuid.uuid4().hex}"
        filesystem.pipe_file(path, b"probe")
        if filesystem.cat_file(path) != b"probe":
            raise OSError("what was written there reads differently")
        filesystem.rm_file(path)

    try:
        call_within(ANSWER_TIMEOUT_S, write)
    except Exception as error:  # each kind of file system has its own
        return hide_password(" ".join(str(error).split()))[:300] or type(error).__name__
    return ""
