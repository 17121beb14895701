"""Resumes a search that stopped: finds it, reads what it was asked for, and checks that nothing has changed since."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from search.cluster.checkpoint_storage import check_url
from search.command_line.options import FIELDS, SearchOptions, dash
from search.command_line.paths import locate_storage, make_absolute
from search.errors import ConfigError
from search.plan.moved_inputs import find_changed_files, hash_files, list_input_files
from search.plan.planner import make_plan
from search.plan.problems import HAS_CHANGED
from search.plan.search_plan import SearchPlan
from search.run_folder.json_files import FIX
from search.run_folder.layout import RECORD_FILE, find_run
from search.run_folder.search_record import SearchRecord
from search.space.config import find_space
from search.study.study_file import make_study_file
from search.study.trial_attributes import count_begun, list_failed, read_trials
from trainables.errors import Finding, shorten

_MOVED = [name for name, field in FIELDS.items() if field.metadata["on_resume"] == "moved"]


@dataclasses.dataclass(frozen=True)
class ResumedSearch:
    """A search that can go on: its ``search.json``, and its plan with the number of trials that is asked for now.

    It ``adds_trials`` where more are asked for than have begun, so that what was chosen has to be chosen again.
    """

    plan: SearchPlan
    record: SearchRecord
    adds_trials: bool = False


def read_resumed(options: SearchOptions) -> ResumedSearch:
    """Finds the search (a folder, a name below ``storage``, or ``last``) and checks that its inputs are what they were.

    Raises:
        ConfigError: With everything that prevents the resume: another space, data set, model or split.
    """
    assert options.resume is not None
    folder = find_run(locate_storage(options.storage), options.resume, "--resume")
    record = SearchRecord.read(folder)
    if "num_trials" not in record.config:
        raise ConfigError.at(folder / RECORD_FILE, "config.num_trials is missing", FIX)
    n_before = int(record.config["num_trials"])
    findings = [
        Finding(dash(name), "is fixed: the search began with its own", "leave it out")
        for name, field in FIELDS.items()
        if getattr(options, name) != field.default
        and (field.metadata["on_resume"] == "fixed" or (name in _MOVED and not record.arguments.get(name)))
    ]
    if not record.arguments:
        what, fix = "was begun by a version that could not resume", "start a new search"
        findings.append(Finding(str(folder / RECORD_FILE), what, fix))
    if options.num_trials is not None and options.num_trials < n_before:
        what = f"the search has {n_before} trials already planned"
        findings.append(Finding(f"--num-trials {options.num_trials}", what, f"give {n_before} or more"))
    asks_for_trials = options.retry_failed or options.num_trials is not None
    trials = read_trials(make_study_file(folder, record)) if asks_for_trials else []
    if options.retry_failed and not list_failed(trials):
        what = "no trial has failed, or each that has was tried again"
        findings.append(Finding("--retry-failed", what, "leave it out"))
    if findings:
        raise ConfigError(findings)
    if record.checkpoint_url:
        check_url(record.checkpoint_url)
    asked = _merge_options(options, record.options, folder, n_before)
    plan = make_plan(asked, resuming=True, tracking_uri=record.tracking_uri)
    url = record.checkpoint_url
    places = dataclasses.replace(plan.places, folder=folder, name=record.search_id, checkpoint_url=url)
    plan = dataclasses.replace(plan, places=places)
    files = list_input_files(plan)
    hashes = hash_files(files)
    if changes := [*_find_changes(plan, record), *find_changed_files(record, files, hashes)]:
        raise ConfigError(changes)
    # A time budget may have ended the search before all that were planned had begun.
    adds_trials = options.retry_failed or (options.num_trials or 0) > count_begun(trials)
    return ResumedSearch(plan, _update_places(plan, record, hashes), adds_trials)


def _update_places(plan: SearchPlan, record: SearchRecord, hashes: dict[str, str]) -> SearchRecord:
    """Returns the record with the places, and the hashes, of now of everything that may have been moved."""
    arguments = record_options(plan.options)
    context = dataclasses.replace(
        record.context,
        store_folder=str(plan.data.store.folder),
        checkpoint=plan.model.checkpoint,
        pathology_weights=dict(plan.model.pathology_weights),
    )
    return dataclasses.replace(
        record,
        data_root=str(plan.data.regions.root),
        context=context,
        arguments={**record.arguments, **{name: arguments[name] for name in _MOVED}},
        input_hashes=hashes,
    )


def _merge_options(given: SearchOptions, before: SearchOptions, folder: Path, n_before: int) -> SearchOptions:
    """Returns the options that a search began with, changed by the free ones that are given now."""
    free = (name for name, field in FIELDS.items() if field.metadata["on_resume"] != "fixed")
    changes = {name: value for name in free if (value := getattr(given, name)) is not None}
    weights = {text.partition("=")[0]: text for text in (*before.pathology_weights, *given.pathology_weights)}
    changes |= {
        "pathology_weights": tuple(weights.values()),
        "space": str(folder / before.space),
        "set": (),  # the copy of the space holds what was set
        "storage": str(folder.parent),
        "num_trials": given.num_trials or n_before,
        "time_budget": given.time_budget,
    }
    return dataclasses.replace(before, **changes)


def record_options(options: SearchOptions) -> dict[str, Any]:
    """Returns the options for ``search.json``: paths absolute, ``space`` the name of its copy beside it."""
    kept = {name: getattr(options, name) for name, field in FIELDS.items() if field.metadata["on_resume"] != "new"}
    for name, field in FIELDS.items():
        if field.metadata["is_path"] and kept[name] is not None:
            kept[name] = make_absolute(kept[name])
    named = (text.partition("=") for text in options.pathology_weights)
    kept["pathology_weights"] = [f"{name}={make_absolute(file)}" for name, _, file in named]
    space = find_space(options.space)
    # The copy's suffix keeps it apart from the search's own files, whatever the space file is called.
    copy = space if space.suffix in (".yaml", ".yml") else space.with_suffix(".yaml")
    return {**kept, "space": copy.name}


def _find_changes(plan: SearchPlan, record: SearchRecord) -> list[Finding]:
    """Returns what is not as it was when the search began."""
    split = {part: list(names) for part, names in plan.data.split.parts.items()}
    now_and_then: dict[str, tuple[object, object]] = {
        f"data {record.data_root}": (plan.data.store.fingerprint, record.data_fingerprint),
        "the split": (split, record.split),
        "the protocol": (plan.protocol.id, record.context.protocol.id),
        "the folds": (plan.data.folds, record.context.folds),
    }
    config = json.loads(json.dumps(plan.config.to_dict(), default=str))  # as the record is read: lists for tuples
    for key in sorted({*config, *record.config} - {"num_trials"}):
        now_and_then[f"{key} of the space"] = config.get(key), record.config.get(key)
    fix = "bring it back as it was, or start a new search"
    return [
        Finding(where, HAS_CHANGED.format(shorten(str(then)), shorten(str(now))), fix)
        for where, (now, then) in now_and_then.items()
        if now != then
    ]
