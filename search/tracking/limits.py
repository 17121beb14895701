"""What MLflow takes: paths, characters in names, lengths of values, finite numbers, entries in one request."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from search.tracking.errors import TrackingError
from trainables.errors import Finding

MAX_BATCH = 100  # parameters, or tags, that a tracking server takes in one request
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000
MAX_NAME_CHARS = 250
MAX_EXPERIMENT_CHARS = 500

_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")

T = TypeVar("T")


def clean_name(name: str) -> str:
    """Returns the name with what MLflow does not allow as underscores, and at most 250 characters long."""
    return _NOT_IN_NAMES.sub("_", name)[:MAX_NAME_CHARS]


def check_experiment(name: str, origin: str = "--experiment") -> list[Finding]:
    """Returns why a name cannot be that of an experiment; ``origin`` says where it comes from."""
    where, fix = f"{origin} {name[:40]}", "choose another name"
    if len(name) > MAX_EXPERIMENT_CHARS:
        return [Finding(f"{where}...", f"has {len(name):,} characters, and MLflow takes {MAX_EXPERIMENT_CHARS}", fix)]
    try:
        name.encode()
    except UnicodeEncodeError:
        return [Finding(ascii(where), "holds bytes that are no UTF-8", fix)]
    return []


def flatten_params(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Returns nested mappings as one, with dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten_params(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def fit_params(values: Mapping[str, object]) -> dict[str, str]:
    """Returns parameters as MLflow takes them: flat, names cleaned, values cut at 6,000 characters."""
    return {clean_name(key): str(value)[:MAX_PARAM_CHARS] for key, value in flatten_params(values).items()}


def fit_tags(values: Mapping[str, object]) -> dict[str, str]:
    """Returns tags as MLflow takes them: values cut at 5,000 characters."""
    return {key: str(value)[:MAX_TAG_CHARS] for key, value in values.items()}


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the finite metrics under cleaned names, and the others under their own."""
    finite = {clean_name(key): float(value) for key, value in metrics.items() if math.isfinite(value)}
    return finite, {key: float(value) for key, value in metrics.items() if not math.isfinite(value)}


def split_batches(entries: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yields the entries in runs of at most 100."""
    for start in range(0, len(entries), MAX_BATCH):
        yield entries[start : start + MAX_BATCH]


def confine_path(path: str, folder: Path) -> Path:
    """Returns a file or folder if it lies in the search's."""
    if "\0" in path or not Path(path).resolve().is_relative_to(folder.resolve()):
        raise TrackingError(f"{path!r} lies outside the search's folder {folder} and is not stored")
    return Path(path)


def confine_name(name: str) -> str:
    """Returns a name among a run's artifacts if it leads nowhere else."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise TrackingError(f"{name!r} is no name of an artifact")
    return name
