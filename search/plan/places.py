"""Where a search's files, checkpoints and runs go: a storage that can be written, a name that is free, MLflow."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from search.cluster.checkpoint_storage import check_url
from search.cluster.disk import MAKE_ROOM, probe_storage
from search.command_line.options import SearchOptions
from search.command_line.paths import is_url, locate_storage
from search.plan.mlflow_store import check_tracking
from search.plan.problems import Problems
from search.space.config import SearchConfig
from search.tracking.limits import check_experiment
from trainables.errors import Finding

# Decoded regions and the demo, shared by all searches of a storage.
CACHE_FOLDER = ".cache"
# Words that mean a single folder below the storage, wherever the file system lies.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Places:
    """Where everything goes that a search writes; its name is that of its folder and its MLflow run too.

    ``cache``, with decoded regions and the demo, is None where the storage cannot be written. Checkpoints go below the
    URL, in a folder of the search's name, if it is not empty.
    """

    name: str
    folder: Path
    cache: Path | None
    checkpoint_url: str
    experiment: str


def read_places(
    options: SearchOptions, config: SearchConfig | None, problems: Problems, resuming: bool, tracking_uri: str
) -> Places:
    """Checks that the storage, the name, the checkpoints' URL and MLflow's store can be used.

    Args:
        config: The space, after which search and experiment are named by default; None where it cannot be read.
        resuming: Whether the search's folder must exist already.
        tracking_uri: Of MLflow's store where the environment names none; empty for MLflow's default.
    """
    storage = locate_storage(options.storage)
    name = name_search(config.name if config else "") if options.name is None else options.name
    storage_findings = check_storage(storage)
    problems.findings += storage_findings
    if not resuming:
        problems.findings += check_name(name) or ([] if storage_findings else find_taken(storage, name))
    url = options.storage if is_url(options.storage) else ""
    if url:
        problems.collect(check_url, url, "" if resuming else name)
    experiment = options.experiment or (config.name if config else "")
    problems.collect(check_tracking, os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri, experiment)
    if options.experiment is not None:
        problems.findings += check_experiment(options.experiment)
    elif config:
        problems.findings += check_experiment(config.name, f"{options.space} name")
    return Places(name, storage / name, None if storage_findings else storage / CACHE_FOLDER, url, experiment)


def check_storage(storage: Path) -> list[Finding]:
    """Makes the folder of all searches where it is missing; returns why nothing can be written to it."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Finding(f"--storage {storage}", f"cannot be made: {error.strerror}", "choose another folder")]
    if not os.access(storage, os.R_OK | os.W_OK | os.X_OK):
        what = "cannot be read" if os.access(storage, os.W_OK) else "cannot be written to"
        return [Finding(f"--storage {storage}", what, "choose another folder")]
    if what := probe_storage(storage):
        fix = f"{MAKE_ROOM}, or choose another folder"
        return [Finding(f"--storage {storage}", f"cannot be written: {what}", fix)]
    return []


def name_search(space: str) -> str:
    """Names a search after its space, whose name may be any text, and the time."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", space).strip("-._")
    return f"{stem[:60] or 'search'}-{datetime.now():%Y%m%d-%H%M%S}"


def check_name(name: str) -> list[Finding]:
    """Returns why a name cannot be that of a folder on every file system."""
    if not _NAME.fullmatch(name):
        what = "must be 1 to 100 letters, digits, '.', '_' or '-'"
        return [Finding(f"--name {name}", what, "choose another name")]
    return []


def find_taken(storage: Path, name: str) -> list[Finding]:
    """Returns that a search's name is taken, if it is."""
    if (storage / name).is_symlink() or (storage / name).exists():
        return [Finding(f"--name {name}", f"{storage / name} exists already", "choose another name")]
    return []
