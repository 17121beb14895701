"""What a search was: written into its folder before the first trial, read by export and whoever asks later."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from search.errors import ConfigError
from search.run_folder.json_files import tell_damaged_record
from search.run_folder.layout import RECORD_FILE
from search.space.config import SamplerKind
from search.space.objective import LABELS, PAIR, Objective
from trainables.context import TrialContext
from trainables.errors import Finding
from trainables.files.field_types import check_fields, check_keys, describe_value
from trainables.files.whole_file import write_whole

_CONFIG: dict[str, Any] = {
    "name": str,
    "description": str,
    "train": bool,
    "protocol": str,
    "num_trials": int,
    "fixed": dict[str, Any],
    "space": dict[str, dict[str, Any]],
}
# Types of the command line's options, as search.json holds them; those that a resume asks for itself are left out.
_OPTIONS: dict[str, Any] = {
    "space": str,
    "data": str | None,
    "split": Literal["auto", "declared", "bcss", "random"],
    "folds": int | None,
    "allow_leak": bool,
    "model": str,
    "checkpoint": str | None,
    "pathology_weights": list[str],
    "protocol": str | None,
    "clip_weights": str | None,
    "clip_model": str | None,
    "prompt_texts": str | None,
    "max_epochs": int | None,
    "confirm": int,
    "confirm_seeds": int,
    "seed": int,
    "gpus_per_trial": float | None,
    "max_concurrent": int | None,
    "address": str | None,
    "name": str | None,
    "experiment": str | None,
}


@dataclass(frozen=True)
class SearchRecord:
    """The resolved configuration and origin of a search.

    Attributes:
        search_id: Name of the search and of its folder.
        experiment: Of MLflow.
        parent_run_id: Its parent run in MLflow; empty before it has one.
        data_root: Folder of the data set.
        split: Names of the regions that train, validate and test.
        split_description: How the split came about.
        data_fingerprint: Of the pixels and classes.
        demo: What of it is a demo; empty for real data and model.
        config: The space file with the command line's changes.
        context: What all trials share; see :class:`trainables.context.TrialContext`.
        environment: Versions, git commit, platform, command line.
        caveats: What every artifact of the search must tell its reader, such as a leak that was allowed.
        arguments: Its command line, by which it is resumed.
        tracking_uri: Where MLflow's store is; empty where the URI holds a password.
        checkpoint_url: Below which its checkpoints went; empty where they are in its folder alone.
        run_key: A tag that no other search's parent run has, by which that run is found where a kill came
            between its opening and its id's being written here.
    """

    search_id: str
    experiment: str
    parent_run_id: str
    data_root: str
    split: dict[str, list[str]]
    split_description: str
    data_fingerprint: str
    demo: str
    config: dict[str, Any]
    context: dict[str, Any]
    environment: dict[str, Any]
    caveats: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    tracking_uri: str = ""
    checkpoint_url: str = ""
    run_key: str = ""

    def write(self, folder: Path) -> None:
        """Writes ``search.json``, whole or not at all."""
        write_whole(folder / RECORD_FILE, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> SearchRecord:
        """Reads ``search.json``.

        Raises:
            ConfigError: If the folder holds no search, or a record that cannot be read.
        """
        path = folder / RECORD_FILE
        if not path.is_file():
            what = f"holds no {RECORD_FILE}"
            raise ConfigError([Finding(str(folder), what, "pass the folder of a search")])
        with tell_damaged_record(path):
            record = SearchRecord(**json.loads(path.read_text(encoding="utf-8")))
            record._check()
        return record

    def _check(self) -> None:
        """Checks what commands rely on; raises what :func:`~search.run_folder.json_files.tell_damaged_record` tells."""
        check_fields(self)
        if "sampler" in self.config:
            check_keys(self.config["sampler"], {"kind": SamplerKind}, "config.sampler")
        # What older versions did not write, or some searches do not have, may be missing.
        _check_those_there(self.config, _CONFIG, "config")
        check_keys(self.environment, {"git_commit": str, "packages": dict[str, str]}, "environment")
        metrics = Objective.from_config(self.config).metrics
        if metrics != PAIR and metrics not in [(metric,) for metric in LABELS]:
            raise TypeError(f"config.objective is {describe_value(self.config['objective'])}")
        if self.arguments:
            check_keys(self.arguments, {"space": str}, "arguments")
            _check_those_there(self.arguments, _OPTIONS, "arguments")
        self.make_context()

    def make_context(self) -> TrialContext:
        """Returns what all trials shared."""
        return TrialContext.from_dict(self.context)


def _check_those_there(values: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> None:
    check_keys(values, {key: hint for key, hint in hints.items() if key in values}, where)
