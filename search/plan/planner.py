"""Turns a command line into a plan of the search, or says at once everything that stands in its way."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from search.cluster.checkpoint_storage import check_url
from search.cluster.resources import check_gpus
from search.cluster.start import check_address
from search.command_line.paths import is_url, locate_storage
from search.errors import ConfigError
from search.plan.class_prompt_checks import check_class_prompts
from search.plan.clip_options import check_naming
from search.plan.data_inputs import _build_store, _describe_leaks, _list_data, _make_folds, _make_split
from search.plan.mlflow_store import check_tracking
from search.plan.pathology_weights import check_pathology, list_random_encoders
from search.plan.search_plan import SearchPlan
from search.plan.storage import CACHE_FOLDER, check_name, check_storage, find_taken, name_search
from search.space.config import SearchConfig, find_space, load_config
from search.tracking.limits import check_experiment
from trainables.data.checks import find_weak_parts
from trainables.data.folds import Fold
from trainables.data.leaks import describe_hospitals, find_duplicates, find_leaks
from trainables.errors import Finding, InputError
from trainables.model.weights import find_model, find_weights, load_model
from trainables.protocol.spec import PROTOCOLS, Protocol
from trainables.recipe import suggest_name

T = TypeVar("T")


def make_plan(
    arguments: argparse.Namespace,
    warn: Callable[[Finding], None] | None = None,
    resuming: bool = False,
    tracking_uri: str = "",
) -> SearchPlan:
    """Reads and checks the space, the data, the model and the folders.

    Args:
        arguments: The command line.
        warn: Called with all that is worth a look and stops nothing, also where findings do; a plan that is
            returned has it among its remarks.
        resuming: Whether the search's folder must be there already.
        tracking_uri: Of MLflow's store where the environment names none; empty for MLflow's default.

    Raises:
        ConfigError: With every finding.
    """
    findings: list[Finding] = []
    warnings: list[Finding] = []
    storage = locate_storage(arguments.storage)
    config = _collect(findings, lambda: _read_config(arguments))
    name = name_search(config.name if config else "") if arguments.name is None else arguments.name
    storage_findings = check_storage(storage)
    findings += storage_findings
    if not resuming:
        findings += check_name(name) or ([] if storage_findings else find_taken(storage, name))
    checkpoint_url = arguments.storage if is_url(arguments.storage) else ""
    if checkpoint_url:
        _collect(findings, lambda: check_url(checkpoint_url, "" if resuming else name))
    _collect(findings, lambda: check_tracking(os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri))
    if arguments.experiment is not None:
        findings += check_experiment(arguments.experiment)
    elif config:
        findings += check_experiment(config.name, f"{arguments.space} name")
    if arguments.address is None:  # a cluster's GPUs are counted when it has been joined
        findings += check_gpus(arguments.gpus_per_trial, torch.cuda.device_count())
    else:
        _collect(findings, lambda: check_address(arguments.address))
    protocol = _collect(findings, lambda: _find_protocol(arguments, config))
    if config and protocol:
        findings += check_class_prompts(config, protocol, arguments.clip_weights is not None)
    spec = _collect(findings, lambda: find_model(arguments.model))
    checkpoint = _collect(findings, lambda: _check_weights(arguments)) if spec else None
    pathology: dict[str, str] | None = {}
    if config:
        space = config
        pathology = _collect(findings, lambda: check_pathology(space, arguments.pathology_weights))
    cache = None if storage_findings else storage / CACHE_FOLDER
    listing = _collect(findings, lambda: _list_data(arguments.data, cache))
    regions = listing.regions if listing else None
    store = split = None
    if listing:
        findings += listing.findings
        warnings += listing.warnings
    if listing and regions:
        told, found = listing, regions
        store = _collect(findings, lambda: _build_store(told, found, spec, cache, warnings.append))
        split = _collect(findings, lambda: _make_split(arguments, told, found, store))
    classes = tuple(regions.classes.values()) if regions else None
    naming = _collect(findings, lambda: check_naming(arguments, classes))
    leaks: list[Finding] = []
    folds: tuple[Fold, ...] | None = ()
    if regions and split:
        leaks = find_leaks(split.parts, regions, store)
        findings += [] if arguments.allow_leak else leaks
    if regions and store and split:
        built, parted, listed = store, split, regions
        folds = _collect(findings, lambda: _make_folds(arguments, parted, listed, built))
        for fold in folds or ():
            # Copies that one part of the split holds together can be dealt to different folds.
            dealt = find_leaks({"train": fold.train, "val": fold.val}, regions, store)
            findings += [] if arguments.allow_leak else [leak for leak in dealt if leak not in findings]
            leaks += [leak for leak in dealt if leak not in leaks]
        weak = find_weak_parts(split, regions, store.class_presence())
        warnings += [*store.warnings, *find_duplicates(store), *weak]
    if warn is not None:
        for warning in warnings:
            warn(warning)
    if findings or not (config and protocol and regions and store and split and naming) or folds is None:
        raise ConfigError(findings)
    assert pathology is not None, "its findings have been raised"
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
        folds=folds,
        n_confirm=arguments.confirm,
        n_seeds=arguments.confirm_seeds,
        naming=naming,
        remarks=(*filter(None, [describe_hospitals(split, regions)]), *map(describe_warning, warnings)),
        caveats=(*_describe_leaks(leaks), *list_random_encoders(config, pathology)),
        pathology_weights=pathology,
        arguments=arguments,
        checkpoint_url=checkpoint_url,
    )


def _collect(findings: list[Finding], read: Callable[[], T]) -> T | None:
    """Reads one input; what is wrong with it joins the findings, so that the others are still looked at."""
    try:
        return read()
    except InputError as error:
        findings += error.findings
    except OSError as error:
        what, fix = error.strerror or str(error), "check the path, its permissions and the room on the disk"
        findings.append(Finding(str(error.filename or "reading the input"), what, fix))
    return None


def _read_config(arguments: argparse.Namespace) -> SearchConfig:
    config = load_config(find_space(arguments.space), PROTOCOLS)
    if findings := _check_effort(arguments, config):
        raise ConfigError(findings)
    changes: dict[str, Any] = {}
    if arguments.num_trials is not None:
        changes["num_trials"] = arguments.num_trials
    if arguments.max_epochs is not None:
        changes["max_epochs"] = arguments.max_epochs
        grace = min(config.scheduler.grace_period, arguments.max_epochs)
        changes["scheduler"] = dataclasses.replace(config.scheduler, grace_period=grace)
    return dataclasses.replace(config, **changes)


def _check_effort(arguments: argparse.Namespace, config: SearchConfig) -> list[Finding]:
    """Returns what the command line asks for and the space cannot use."""
    findings = []
    if config.is_replay and (arguments.num_trials or 1) > 1:
        what = f"{config.name} is a replay: without a space every trial is the same"
        findings.append(Finding(f"--num-trials {arguments.num_trials}", what, "leave it out"))
    if not config.train and arguments.max_epochs is not None:
        what = f"has no effect: {config.name} trains nothing"
        findings.append(Finding(f"--max-epochs {arguments.max_epochs}", what, "leave it out"))
    return findings


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


def describe_warning(warning: Finding) -> str:
    """Returns a warning as the remark that a plan makes of it."""
    return f"{warning.where}: {warning.what}; {warning.fix}"
