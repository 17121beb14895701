"""Schedulers, samplers and the plateau stop of a space file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from search.space.config import SearchConfig
from search.space.kinds import SAMPLER_OPTIONS, SCHEDULER_OPTIONS, SamplerConfig, SchedulerConfig, StopConfig

MINIMAL = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"


@pytest.mark.parametrize(("grace", "epochs"), [(1, 1), (5, 5), (0.25, 5), (0.01, 1), (0.99, 20)])
def test_the_grace_period_is_epochs_or_a_share_of_them(grace: float, epochs: int) -> None:
    assert SchedulerConfig(grace_period=grace).count_grace_epochs(20) == epochs


@pytest.mark.parametrize(
    ("text", "scheduler"),
    [
        ("kind: asha, grace_period: 0.3, moved: 0.05", SchedulerConfig("asha", 0.3, moved=0.05)),
        ("kind: promotion, quorum: 4, reduction_factor: 2", SchedulerConfig("promotion", 1, 2, quorum=4)),
        ("kind: racing, min_pairs: 12, p_value: 0.01", SchedulerConfig("racing", min_pairs=12, p_value=0.01)),
    ],
)
def test_a_scheduler_is_read_and_said_again(
    load_space: Callable[[str], SearchConfig], text: str, scheduler: SchedulerConfig
) -> None:
    config = load_space(f"{MINIMAL}scheduler: {{{text}}}\n")
    assert config.scheduler == scheduler
    assert load_space(yaml.safe_dump(config.to_dict())) == config


@pytest.mark.parametrize("kind", SAMPLER_OPTIONS)
def test_samplers_and_a_stop_are_read_and_said_again(load_space: Callable[[str], SearchConfig], kind: str) -> None:
    config = load_space(f"{MINIMAL}sampler: {{kind: {kind}}}\nstop: {{patience_trials: 4, min_gain: 0.01}}\n")
    assert (config.sampler.kind, config.stop) == (kind, StopConfig(4, 0.01))
    assert load_space(yaml.safe_dump(config.to_dict())) == config


def test_defaults_are_said_as_before() -> None:
    assert SchedulerConfig().to_dict() == {"kind": "asha", "grace_period": 1, "reduction_factor": 3}
    assert SamplerConfig().to_dict() == {"kind": "tpe", "startup_trials": 6}
    assert all(SchedulerConfig(kind).to_dict()["kind"] == kind for kind in SCHEDULER_OPTIONS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("scheduler: {kind: asha, quorum: 2}\n", "3 scheduler.quorum", "kind: promotion"),
        ("scheduler: {kind: racing, moved: 0.1}\n", "3 scheduler.moved", "kind: asha or kind: promotion"),
        ("scheduler: {kind: racing, p_value: 1}\n", "3 scheduler.p_value", "above 0 and below 1"),
        ("scheduler: {grace_period: 1.5}\n", "3 scheduler.grace_period", "above 0 and below 1"),
        ("sampler: {kind: qmc, startup_trials: 2}\n", "3 sampler.startup_trials", "kind: tpe or kind: gp"),
        ("stop: {min_gain: 0.1}\n", "3 stop", "has no patience_trials"),
        ("stop: {patience_trials: 0}\n", "3 stop.patience_trials", "at least 1"),
        ("stop: {patience_trials: 3, min_gain: -1}\n", "3 stop.min_gain", "from 0 to 1"),
    ],
)
def test_faults_are_reported(
    list_faults: Callable[[str], list[tuple[str, str]]], text: str, where: str, words: str
) -> None:
    ((place, found),) = list_faults(MINIMAL + text)
    assert place == where and words in found


def test_a_single_trial_has_no_plateau(list_faults: Callable[[str], list[tuple[str, str]]]) -> None:
    ((place, found),) = list_faults("fixed: {optim.lr: 0.001}\nstop: {patience_trials: 3}\n")
    assert place == "2 stop" and "no effect on a single trial" in found
