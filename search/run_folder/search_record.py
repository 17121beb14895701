"""``search.json``: what a search was asked for, written before its first trial and read by all later commands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from search.command_line.options import SearchOptions
from search.errors import ConfigError
from search.run_folder.json_files import read_record, write_record
from search.run_folder.layout import RECORD_FILE
from search.space.kinds import SamplerKind
from search.space.objective import DICE, Objective
from trainables.context import TrialContext
from trainables.files.json_reader import build_record, holds

SHIPPED_WEIGHTS = "shipped weights"  # nano's own, among the hashes of inputs


@dataclass(frozen=True)
class _Config:
    """What commands need of a search's configuration, as far as each kind of search and older version wrote it."""

    sampler: _Sampler
    num_trials: int = 0
    name: str = ""
    description: str = ""
    train: bool = True
    protocol: str = ""
    scheduler: dict[str, Any] = field(default_factory=dict)
    objective: str | list[str] = DICE
    fixed: dict[str, Any] = field(default_factory=dict)
    space: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Objective.from_plain(self.objective)


@dataclass(frozen=True)
class _Sampler:
    kind: SamplerKind
    startup_trials: int = 0


@dataclass(frozen=True)
class _Environment:
    git_commit: str
    packages: dict[str, str]


def _check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments and not build_record(arguments, SearchOptions, "ignore").space:
        raise ValueError("space is missing")
    return arguments


@dataclass(frozen=True)
class SearchRecord:
    """The resolved configuration and origin of a search.

    Attributes:
        search_id: Name of the search and of its folder.
        parent_run_id: Its parent run in MLflow; empty before it has one.
        split: Names of the regions that train, validate and test.
        split_description: How the split came about.
        data_fingerprint: Of the pixels and classes.
        demo: What of it is a demo; empty for real data and model.
        config: The space file with the command line's changes.
        environment: Versions, git commit, platform, command line.
        caveats: What every artifact of the search must say, such as a leak that was allowed.
        arguments: Its command line, by which it is resumed.
        tracking_uri: Where MLflow's store is; empty where the URI holds a password.
        checkpoint_url: Below which its checkpoints went; empty where they are in its folder alone.
        run_key: A tag of the parent run alone, by which a resume finds a run whose id a kill kept from being
            written here.
        input_hashes: SHA-256 of the files of weights and texts, by option or by pathology encoder; empty in records
            of older versions.
        warm_start: A sentence on each earlier search that it learns from, with what it takes from there.
    """

    search_id: str
    experiment: str
    parent_run_id: str
    data_root: str
    split: dict[str, list[str]]
    split_description: str
    data_fingerprint: str
    demo: str
    config: Annotated[dict[str, Any], holds(_Config)]
    context: TrialContext
    environment: Annotated[dict[str, Any], holds(_Environment)]
    caveats: list[str] = field(default_factory=list)
    arguments: Annotated[dict[str, Any], AfterValidator(_check_arguments)] = field(default_factory=dict)
    tracking_uri: str = ""
    checkpoint_url: str = ""
    run_key: str = ""
    input_hashes: dict[str, str] = field(default_factory=dict)
    warm_start: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes ``search.json``, whole or not at all."""
        write_record(folder / RECORD_FILE, self)

    @staticmethod
    def read(folder: Path) -> SearchRecord:
        """Reads ``search.json``.

        Raises:
            ConfigError: If the folder holds no search, or a record that cannot be read.
        """
        path = folder / RECORD_FILE
        if not path.is_file():
            what = f"holds no {RECORD_FILE}"
            raise ConfigError.at(folder, what, "pass the folder of a search")
        return read_record(path, SearchRecord)

    def list_facts(self) -> dict[str, Any]:
        """Returns what must be the same for the scores of another search to compare; see :func:`list_facts`."""
        return list_facts(self.context, self.data_fingerprint, self.split, self.config, self.input_hashes)

    @property
    def options(self) -> SearchOptions:
        """The options that it began with; those that an older version did not know have their defaults."""
        return build_record(self.arguments, SearchOptions, "ignore")


def list_facts(
    context: TrialContext,
    data_fingerprint: str,
    split: Mapping[str, Sequence[str]],
    config: Mapping[str, Any],
    input_hashes: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what a trial's scores depend on besides its own values and the seed, by name, as JSON would hold it."""
    weights = {"checkpoint": context.checkpoint, SHIPPED_WEIGHTS: None, **context.pathology_weights}
    facts = {
        "data": data_fingerprint,
        "the split": split,
        "the folds": [dataclasses.asdict(fold) for fold in context.folds],
        "the protocol": context.protocol.id,
        "the model": context.model,
        "the weights": {name: input_hashes.get(name, place) for name, place in weights.items()},
        "the objective": config.get("objective", DICE),
        "the scales of the update that count": config.get("scales", [1.0]),
        "max_epochs": config.get("max_epochs"),
        "what is fixed": config.get("fixed", {}),
        "the space": config.get("space", {}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain
