"""Going on with a search that stopped: which one, what it was asked for, and that nothing of it has changed since."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.cluster.checkpoint_storage import check_url
from search.command_line.paths import expand_path, locate_storage
from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.run_folder.layout import RECORD_FILE, find_run
from search.run_folder.search_record import SearchRecord
from trainables.errors import Finding

LAST = "last"
# What a resume may set anew: how much is searched, and what on; all else the search has decided.
FREE_OPTIONS = (
    "resume", "space", "storage", "num_trials", "time_budget", "gpus_per_trial", "max_concurrent", "address", "json",
)  # fmt: skip
_PATH_OPTIONS = ("data", "checkpoint", "clip_weights", "prompt_texts")


@dataclasses.dataclass(frozen=True)
class ResumedSearch:
    """A search that can go on.

    Attributes:
        plan: What it was asked for, with its trials' number as it is now.
        record: What was written down of it.
    """

    plan: SearchPlan
    record: SearchRecord

    @property
    def adds_trials(self) -> bool:
        """Whether more trials are asked for than before, so that what was chosen has to be chosen again."""
        return self.plan.config.num_trials > int(self.record.config.get("num_trials", 0))


def read_resumed(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> ResumedSearch:
    """Finds the search and checks that space, data, model and split are what they were.

    Args:
        arguments: The command line, with ``resume``: a folder, a name below ``storage``, or ``last``.
        defaults: The value of every option that was not given.

    Raises:
        ConfigError: With everything that stands in the way.
    """
    folder = _find_folder(locate_storage(arguments.storage), arguments.resume)
    record = SearchRecord.read(folder)
    before = int(record.config.get("num_trials", 0))
    findings = [
        Finding(f"--{name.replace('_', '-')}", "is fixed: the search began with its own", "leave it out")
        for name, value in vars(arguments).items()
        if name not in FREE_OPTIONS and value != defaults.get(name)
    ]
    if not record.arguments:
        what, fix = "was begun by a version that could not resume", "start a new search"
        findings.append(Finding(str(folder / RECORD_FILE), what, fix))
    if arguments.num_trials is not None and arguments.num_trials < before:
        what = f"the search has {before} trials already planned"
        findings.append(Finding(f"--num-trials {arguments.num_trials}", what, f"give {before} or more"))
    if findings:
        raise ConfigError(findings)
    asked = argparse.Namespace(**{**defaults, **record.arguments})
    asked.space = str(folder / asked.space)
    asked.storage = str(folder.parent)
    asked.num_trials = arguments.num_trials or before
    asked.time_budget = arguments.time_budget
    for name in ("address", "gpus_per_trial", "max_concurrent"):  # what is not given anew stays as it was
        if getattr(arguments, name) is not None:
            setattr(asked, name, getattr(arguments, name))
    if record.checkpoint_url:
        check_url(record.checkpoint_url)
    plan = make_plan(asked, resuming=True, tracking_uri=record.tracking_uri)
    plan = dataclasses.replace(plan, folder=folder, name=record.search_id, checkpoint_url=record.checkpoint_url)
    if changes := _find_changes(plan, record):
        raise ConfigError(changes)
    return ResumedSearch(plan, record)


def keep_arguments(arguments: argparse.Namespace, space: Path) -> dict[str, Any]:
    """Returns a command line for the record: paths absolute, the space as the copy in the search's folder."""
    kept = {name: value for name, value in vars(arguments).items() if name not in ("resume", "json", "storage")}
    for name in _PATH_OPTIONS:
        if kept.get(name) is not None and expand_path(kept[name]).exists():
            kept[name] = str(expand_path(kept[name]))
    kept["pathology_weights"] = [_make_absolute(text) for text in kept.get("pathology_weights") or []]
    # A space file may have any name, be it that of one of the search's own files.
    copy = space if space.suffix in (".yaml", ".yml") else space.with_suffix(".yaml")
    return {**kept, "space": copy.name}


def describe_resume(folder: Path) -> str:
    """Returns the command that goes on with a search."""
    return shlex.join(["python", "-m", "search.run", "--resume", str(folder)])


def _make_absolute(text: str) -> str:
    name, _, file = text.partition("=")
    path = expand_path(file)
    return f"{name}={path}" if path.exists() else text


def _find_folder(storage: Path, run: str) -> Path:
    if run != LAST:
        return find_run(storage, run, "--resume")
    records = sorted(storage.glob(f"*/{RECORD_FILE}"), key=lambda path: path.stat().st_mtime)
    if not records:
        raise ConfigError([Finding("--resume last", f"{storage} holds no searches", "give --storage, or a folder")])
    return records[-1].parent


def _find_changes(plan: SearchPlan, record: SearchRecord) -> list[Finding]:
    """Returns what is not as it was when the search began."""
    findings = []

    def compare(where: str, now: object, then: object, fix: str) -> None:
        if now != then:
            what = f"has changed since the search began: it was {_shorten(then)} and is {_shorten(now)}"
            findings.append(Finding(where, what, fix))

    restore = "bring it back as it was, or start a new search"
    compare(f"data {record.data_root}", plan.store.fingerprint, record.data_fingerprint, restore)
    split = {part: list(names) for part, names in plan.split.parts.items()}
    compare("the split", split, record.split, restore)
    then = record.context
    compare("the protocol", plan.protocol.id, then.protocol.id, restore)
    compare("the folds", plan.folds, then.folds, restore)
    # As it would be read again, as the other is: lists in place of tuples.
    config = json.loads(json.dumps(plan.config.to_dict(), default=str))
    for key in sorted({*config, *record.config} - {"num_trials"}):
        compare(f"{key} of the space", config.get(key), record.config.get(key), restore)
    return findings


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
