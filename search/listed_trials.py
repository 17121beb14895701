"""Trials whose configurations are known, confirmations and refits, as their folders tell of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.damage import tell_damaged_record
from search.epoch_log import PARAMS_FILE, read_failure
from search.results import list_trial_folders, read_epochs
from trainables.context import DIVERGED


@dataclass(frozen=True)
class ListedTrial:
    """A trial of a known configuration that was begun.

    Attributes:
        config: What it was started with.
        folder: Its folder, with ``result.json`` and checkpoints.
        failure: Why it failed; empty where it did not.
        diverged: Whether it ended itself for a loss that was not finite: trained again, it would end there again.
    """

    config: Mapping[str, Any]
    folder: Path
    failure: str
    diverged: bool = False


def read_listed(folder: Path) -> list[ListedTrial]:
    """Returns the trials of a folder that were begun, whether they ended or not.

    Raises:
        ConfigError: If a trial's ``params.json`` is damaged.
    """
    trials = []
    for path in list_trial_folders(folder):
        if (path / PARAMS_FILE).is_file():
            config, rows = _read_config(path / PARAMS_FILE), read_epochs(path)
            diverged = bool(rows) and bool(rows[max(rows)].get(DIVERGED))
            failure = read_failure(path) or "the loss was not finite" * diverged
            trials.append(ListedTrial(config, path, failure, diverged))
    return trials


def _read_config(path: Path) -> Mapping[str, Any]:
    with tell_damaged_record(path, f"remove the folder {path.parent.name}: its configuration is trained again"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("it is no configuration")
    return config


def is_same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations train the same recipe with the same seed."""
    return json.dumps(dict(one), sort_keys=True) == json.dumps(dict(other), sort_keys=True)
