"""Turns a command line into a plan of the search, or says at once everything that stands in its way."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from search.config import SearchConfig, find_space, load_config
from search.errors import ConfigError
from trainables.checkpoint import find_model, find_weights, load_model
from trainables.data.bcss import RegionSet, read_regions
from trainables.data.splits import Split, make_split
from trainables.data.store import RegionStore
from trainables.data.tissue import write_demo
from trainables.errors import Finding, InputError
from trainables.protocol import PROTOCOLS, Protocol
from trainables.recipe import suggest_name

T = TypeVar("T")
# Words that mean a single folder below the storage, wherever the file system lies.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class SearchPlan:
    """A search that can start: every input has been read and fits.

    Attributes:
        name: Of the search; also of its folder.
        folder: Where all its files go.
        config: The space file, with the command line's changes.
        protocol: How candidates are scored.
        model: Name of the SAM2 model.
        checkpoint: Its weights' file or hub id; None for nano's own.
        regions: The data set.
        store: The data set, decoded.
        split: Which regions train, validate and test.
        is_demo: Whether the data is the built-in synthetic tissue.
        experiment: Of MLflow.
        seed: Of all that the search leaves to chance.
        time_budget_s: Seconds after which running trials are ended; None for no limit.
    """

    name: str
    folder: Path
    config: SearchConfig
    protocol: Protocol
    model: str
    checkpoint: str | None
    regions: RegionSet
    store: RegionStore
    split: Split
    is_demo: bool
    experiment: str
    seed: int
    time_budget_s: float | None

    @property
    def demo_words(self) -> str:
        """What a screen must say so that no demo number is taken for another; empty for real data and model."""
        parts = ["demo data (synthetic tissue)"] * self.is_demo
        parts += [f"demo model ({self.model}, 2.5 M parameters)"] * find_model(self.model).is_demo
        return " and ".join(parts)

    def to_lines(self) -> list[str]:
        """Returns what the screen says before anything starts."""
        lines = [f"DEMO: {self.demo_words}: these numbers say nothing about BCSS."] if self.demo_words else []
        counts = ", ".join(f"{len(names)} {part}" for part, names in self.split.parts.items())
        config = self.config
        return [
            *lines,
            f"search   {self.name}: {config.num_trials} trials of up to {config.max_epochs} epochs, "
            f"{len(config.space)} parameters, in {self.folder}",
            f"model    {self.model} ({self.checkpoint or 'shipped weights'})",
            f"data     {self.regions.name}: {counts} regions, classes {', '.join(self.store.classes.values())}, "
            f"fingerprint {self.store.fingerprint}",
            f"split    {self.split.description}",
            f"protocol {self.protocol.describe()}",
        ]


def make_plan(arguments: argparse.Namespace) -> SearchPlan:
    """Reads and checks the space, the data, the model and the folders.

    Raises:
        ConfigError: With every finding.
    """
    findings: list[Finding] = []
    storage = Path(arguments.storage).expanduser().resolve()
    config = _collect(findings, lambda: _read_config(arguments))
    stem = config.name if config else "search"
    name = arguments.name or f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    findings += _check_folder(storage, name)
    protocol = _collect(findings, lambda: _find_protocol(arguments, config))
    spec = _collect(findings, lambda: find_model(arguments.model))
    checkpoint = _collect(findings, lambda: _check_weights(arguments)) if spec else None
    regions = store = split = None
    if not any(finding.where.startswith("--storage") for finding in findings):
        root = _collect(findings, lambda: _find_data(arguments.data, storage))
        regions = _collect(findings, lambda: read_regions(root)) if root else None
    if regions and spec:
        size = 256 if spec.is_demo else 1024
        found = regions
        store = _collect(findings, lambda: RegionStore.build(found, size, storage / ".cache"))
    if regions and store:
        split = _collect(findings, lambda: _make_split(arguments, found, store))
    if findings or not (config and protocol and regions and store and split):
        raise ConfigError(findings)
    return SearchPlan(
        name=name,
        folder=storage / name,
        config=config,
        protocol=protocol,
        model=arguments.model,
        checkpoint=checkpoint or None,
        regions=regions,
        store=store,
        split=split,
        is_demo=arguments.data is None,
        experiment=arguments.experiment or config.name,
        seed=arguments.seed,
        time_budget_s=arguments.time_budget,
    )


def _collect(findings: list[Finding], read: Callable[[], T]) -> T | None:
    """Reads one input; what is wrong with it joins the findings, so that the others are still looked at."""
    try:
        return read()
    except (ConfigError, InputError) as error:
        findings += error.findings
        return None


def _read_config(arguments: argparse.Namespace) -> SearchConfig:
    config = load_config(find_space(arguments.space), PROTOCOLS)
    changes: dict[str, Any] = {}
    if arguments.num_trials is not None:
        changes["num_trials"] = arguments.num_trials
    if arguments.max_epochs is not None:
        changes["max_epochs"] = arguments.max_epochs
        grace = min(config.scheduler.grace_period, arguments.max_epochs)
        changes["scheduler"] = dataclasses.replace(config.scheduler, grace_period=grace)
    return dataclasses.replace(config, **changes)


def _find_protocol(arguments: argparse.Namespace, config: SearchConfig | None) -> Protocol | None:
    if arguments.protocol is None:
        return PROTOCOLS[config.protocol] if config else None
    if arguments.protocol not in PROTOCOLS:
        hint = suggest_name(arguments.protocol, PROTOCOLS)
        raise ConfigError([Finding(f"--protocol {arguments.protocol}", "no such protocol", hint)])
    return PROTOCOLS[arguments.protocol]


def _check_weights(arguments: argparse.Namespace) -> str:
    """Loads the weights once, so that a file that does not fit is told before anything starts."""
    path = find_weights(find_model(arguments.model), arguments.checkpoint)
    load_model(arguments.model, str(path))
    return "" if arguments.checkpoint is None else str(path)


def _find_data(data: str | None, storage: Path) -> Path:
    if data is not None:
        return Path(data).expanduser().resolve()
    root = storage / ".cache" / "demo-tissue"
    write_demo(root)
    return root


def _make_split(arguments: argparse.Namespace, regions: RegionSet, store: RegionStore) -> Split:
    return make_split(regions, arguments.split, arguments.seed, class_presence=store.class_presence())


def _check_folder(storage: Path, name: str) -> list[Finding]:
    if not _NAME.fullmatch(name):
        return [
            Finding(f"--name {name}", "must be 1 to 100 letters, digits, '.', '_' or '-'", "choose another name")
        ]
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Finding(f"--storage {storage}", f"cannot be made: {error.strerror}", "choose another folder")]
    if not os.access(storage, os.W_OK):
        return [Finding(f"--storage {storage}", "cannot be written to", "choose another folder")]
    if (storage / name).exists():
        return [Finding(f"--name {name}", f"{storage / name} exists already", "choose another name")]
    return []
