"""Turns a command line into the plan of a search, or reports everything that prevents it at once."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from search.cluster.resources import check_gpus
from search.cluster.start import check_address, check_machine
from search.command_line.numbers import AUTO
from search.command_line.options import SearchOptions
from search.command_line.paths import locate_storage
from search.errors import ConfigError
from search.plan.class_prompt_checks import check_class_prompts
from search.plan.data_inputs import DataUse, list_data, read_data
from search.plan.model_inputs import read_model
from search.plan.moved_inputs import hash_files, list_input_files
from search.plan.places import read_places
from search.plan.problems import Problems
from search.plan.search_plan import SearchPlan
from search.run_folder.layout import find_run
from search.run_folder.search_record import list_facts
from search.space.config import SearchConfig, find_space, load_config
from search.study.warm_start import OPTION, WarmStart, read_warm_start
from trainables.errors import Finding, suggest_name
from trainables.model.weights import find_model
from trainables.protocol.spec import PROTOCOLS, Protocol, add_tiles
from trainables.tiles.grid import Tiles


def make_plan(
    options: SearchOptions,
    warn: Callable[[Finding], None] | None = None,
    resuming: bool = False,
    tracking_uri: str = "",
) -> SearchPlan:
    """Reads and checks the space, the data, the model and the places.

    Args:
        warn: Called with each warning, also where findings stop the search; a returned plan holds them too.
        resuming: Whether the search's folder must exist already.
        tracking_uri: Of MLflow's store where the environment names none; empty for MLflow's default.

    Raises:
        ConfigError: With every finding.
    """
    problems = Problems()
    if options.retry_failed and not resuming:
        problems.findings.append(Finding("--retry-failed", "is for a search that goes on", "add --resume RUN"))
    config = problems.collect(_read_config, options)
    places = read_places(options, config, problems, resuming, tracking_uri)
    _check_devices(options, problems)
    protocol = problems.collect(_find_protocol, options, config)
    if config and protocol:
        problems.findings += check_class_prompts(config, protocol, options.clip_weights is not None)
    spec = problems.collect(find_model, options.model)
    listing = problems.collect(list_data, options.data, places.cache)
    classes = tuple(listing.regions.classes.values()) if listing and listing.regions else None
    model = read_model(options, config, spec, classes, problems)
    use = DataUse(spec.side_px if spec else None, places.cache, protocol, resuming)
    data = read_data(options, listing, use, problems) if listing else None
    plan = None
    if config and protocol and model and data:
        plan = SearchPlan(options, config, protocol, places, model, data, tuple(problems.warnings))
        if options.warm_start and not resuming:  # what is resumed has in its study what it learns from
            warm_start = problems.collect(_read_warm_start, plan)
            plan = dataclasses.replace(plan, warm_start=warm_start or WarmStart())
    elif not resuming:  # what they are compared with is not known
        for run in options.warm_start:
            problems.collect(find_run, locate_storage(options.storage), run, OPTION)
    if warn is not None:
        for warning in problems.warnings:
            warn(warning)
    if problems.findings:
        raise ConfigError(problems.findings)
    assert plan, "a reader that returns nothing reports a finding"
    return plan


def _read_warm_start(plan: SearchPlan) -> WarmStart:
    split = {part: list(names) for part, names in plan.data.split.parts.items()}
    hashes = hash_files(list_input_files(plan))
    facts = list_facts(plan.make_context(0), plan.data.store.fingerprint, split, plan.config.to_dict(), hashes)
    return read_warm_start(plan.options.warm_start, plan.folder.parent, plan.config, facts)


def _check_devices(options: SearchOptions, problems: Problems) -> None:
    """Checks that the GPUs exist, or that a cluster answers, whose GPUs are counted when it has been joined."""
    if options.address is None:
        problems.collect(check_machine)
        asked = None if options.gpus_per_trial == AUTO else options.gpus_per_trial
        problems.findings += check_gpus(asked, torch.cuda.device_count())
    else:
        problems.collect(check_address, options.address)


def _read_config(options: SearchOptions) -> SearchConfig:
    try:
        tiles = Tiles.parse(options.tiles) if options.tiles else None
    except ValueError as error:  # from a damaged record: the command line has been checked
        raise ConfigError.at(f"--tiles {options.tiles}", str(error), "write tiles such as 1024,0.5") from error
    config = load_config(find_space(options.space), tiles, options.set)
    if findings := _check_effort(options, config):
        raise ConfigError(findings)
    changes: dict[str, Any] = {}
    if options.num_trials is not None:
        changes["num_trials"] = options.num_trials
    if options.max_epochs is not None:
        changes["max_epochs"] = options.max_epochs
        grace = min(config.scheduler.grace_period, options.max_epochs)
        changes["scheduler"] = dataclasses.replace(config.scheduler, grace_period=grace)
    return dataclasses.replace(config, **changes)


def _check_effort(options: SearchOptions, config: SearchConfig) -> list[Finding]:
    """Returns what the command line asks for and the space cannot use."""
    findings = []
    if config.is_replay and (options.num_trials or 1) > 1:
        what = f"{config.name} is a replay: without a space every trial is the same"
        findings.append(Finding(f"--num-trials {options.num_trials}", what, "leave it out"))
    if not config.train and options.max_epochs is not None:
        what = f"has no effect: {config.name} trains nothing"
        where = f"--preset {options.preset}" if options.preset else f"--max-epochs {options.max_epochs}"
        findings.append(Finding(where, what, "leave it out"))
    return findings


def _find_protocol(options: SearchOptions, config: SearchConfig | None) -> Protocol | None:
    if options.protocol is not None and options.protocol not in PROTOCOLS:
        hint = suggest_name(options.protocol, PROTOCOLS)
        raise ConfigError.at(f"--protocol {options.protocol}", "no such protocol", hint)
    name = options.protocol or (config.protocol if config else None)
    return add_tiles(PROTOCOLS[name], config.tiles if config else None) if name else None
