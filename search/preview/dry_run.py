"""What ``--dry-run`` shows: the resolved space, ten trials, and what the whole search would cost."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from typing import Any

import torch

from search.cluster.limits import count_cpus
from search.cluster.resources import TrialResources, share_resources
from search.command_line.numbers import AUTO, format_seconds
from search.plan.search_plan import SearchPlan
from search.preview.first_trials import draw_trials, tabulate_trials
from search.space.kinds import SchedulerConfig
from search.tuning.asha import list_rungs
from trainables.errors import count_things
from trainables.trial_cost import N_STEPS, TrialCost, measure_trial

N_TRIALS = 10
_CHECKPOINTS = 2  # of a trial: its best epoch and its last


@dataclasses.dataclass(frozen=True)
class SearchCost:
    """What a whole search costs, without the bar, the test and the export.

    Attributes:
        max_epochs: Of all trials, confirmations and the refit of a cross-validation, if none is stopped early.
        epochs: The same, if each rung sends on no more than one trial in ``reduction_factor``; the expected cost.
        hours: What ``epochs`` take. A training fills one slot, so slots stay idle where there are fewer trainings.
        max_hours: The same of ``max_epochs``.
        disk_mb: Checkpoints and the export, in MB (10^6 bytes).
        free_mb: Room on the disk of the searches.
    """

    max_epochs: int
    epochs: int
    hours: float
    max_hours: float
    disk_mb: float
    free_mb: float


def show_search(plan: SearchPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """Says what a search would do and cost, by the lines of its plan and figures measured here; returns the figures.

    Raises:
        TrainablesError: If the steps that are measured fail.
    """
    for line in plan.to_lines():
        say(line)
    say("\nThe resolved space:\n")
    for line in plan.config.to_yaml().splitlines():
        say(f"  {line}")
    trials = draw_trials(plan, N_TRIALS)
    shown = count_things(len(trials), "trial")
    say(f"\nThe first {shown}, as drawn before any has ended (seed {plan.options.seed}):\n")
    for line in tabulate_trials(trials, list(plan.config.space)):
        say(line)
    figures: dict[str, Any] = {"config": plan.config.to_dict(), "trials": [dict(trial.values) for trial in trials]}
    if not plan.config.train:
        say("\nNothing is trained. The search was not started.")
        return figures
    resources = _share(plan)
    say(f"\nmeasuring {N_STEPS} training steps of the first trial ...")
    torch.set_num_threads(resources.cpus)  # as many as a trial has
    cost = measure_trial(plan.make_context(resources.n_workers), trials[0].values)
    whole = estimate_search(plan, cost, resources)
    for line in _describe(plan, cost, whole, resources):
        say(line)
    return {**figures, "trial": dataclasses.asdict(cost), "search": dataclasses.asdict(whole)}


def estimate_search(plan: SearchPlan, cost: TrialCost, resources: TrialResources) -> SearchCost:
    """Returns what a search costs, from what a trial does."""
    config, last = plan.config, plan.config.max_epochs
    n_folds, n_refits = max(1, len(plan.data.folds)), int(bool(plan.data.folds))
    n_confirmed = _count_confirmations(plan)
    mean = count_epochs(config.scheduler, last)
    # Trainings in a row on a slot. Each stage waits for the one before; the refit is one model in place of one a fold.
    in_a_row = math.ceil(config.num_trials / resources.concurrent)
    after = math.ceil(n_confirmed / resources.concurrent) + n_refits / n_folds
    hours_per_epoch = cost.seconds_per_epoch * n_folds / 3600
    n_checkpoints = (config.num_trials + n_confirmed) * _CHECKPOINTS * n_folds + n_refits
    return SearchCost(
        max_epochs=(config.num_trials + n_confirmed + n_refits) * last,
        epochs=round(config.num_trials * mean) + (n_confirmed + n_refits) * last,
        hours=(in_a_row * mean + after * last) * hours_per_epoch,
        max_hours=(in_a_row + after) * last * hours_per_epoch,
        disk_mb=n_checkpoints * cost.checkpoint_mb + cost.weights_mb,
        free_mb=shutil.disk_usage(plan.folder.parent).free / 1e6,
    )


def _count_confirmations(plan: SearchPlan) -> int:
    """Returns the most trainings of a confirmation: no more configurations than trials."""
    return min(plan.options.confirm, plan.config.num_trials) * plan.options.confirm_seeds


def count_epochs(scheduler: SchedulerConfig, max_epochs: int) -> float:
    """Returns the mean epochs of a trial where each rung sends on exactly one in ``reduction_factor``.

    This is what successive halving trains (Jamieson and Talwalkar 2016); asynchronous halving, in which the first to
    come passes, trains more. For other schedulers it is all epochs.
    """
    if scheduler.kind not in ("asha", "promotion"):
        return float(max_epochs)
    total, share, done = 0.0, 1.0, 0
    for rung in list_rungs(scheduler.count_grace_epochs(max_epochs), scheduler.reduction_factor, max_epochs):
        total += share * (rung - done)
        share, done = share / scheduler.reduction_factor, rung
    return total + share * (max_epochs - done)


def _share(plan: SearchPlan) -> TrialResources:
    """Returns what a trial would be given on this machine; a whole GPU where the search is to measure the share."""
    asked = None if plan.options.gpus_per_trial == AUTO else plan.options.gpus_per_trial
    node = {"CPU": float(count_cpus()), "GPU": float(torch.cuda.device_count())}
    return share_resources([node], asked, plan.options.max_concurrent)


def _describe(plan: SearchPlan, cost: TrialCost, whole: SearchCost, resources: TrialResources) -> list[str]:
    config, n_folds = plan.config, max(1, len(plan.data.folds))
    where = "of the GPU" if cost.device == "cuda" else "of the process"
    trial = cost.seconds_per_epoch * config.max_epochs * n_folds
    folds = f", {n_folds} folds" if n_folds > 1 else ""
    slots = f"{resources.concurrent} at once on this machine"
    slots += "; a cluster's slots share the same work" if plan.options.address else ""
    slots += "; more if they fit a GPU" if resources.gpus and plan.options.gpus_per_trial == AUTO else ""
    trials = count_things(config.num_trials, "trial")
    confirmed = f", up to {count_things(_count_confirmations(plan), 'confirmation')}" if plan.options.confirm else ""
    refit = ", a refit" if plan.data.folds else ""
    early = f"about {whole.epochs:,} epochs if rules end trials early, " if whole.epochs < whole.max_epochs else ""
    hours = f"{format_seconds(whole.hours * 3600)} to " if whole.epochs < whole.max_epochs else ""
    room = "" if whole.disk_mb < whole.free_mb else "; THERE IS NOT ENOUGH ROOM"
    return [
        f"one step     {cost.seconds_per_step:.2f} s on {cost.device}, {cost.memory.peak_mb:,.0f} MB {where}",
        f"one epoch    {cost.steps_per_epoch} steps and {cost.scored_per_epoch} regions validated: "
        f"{format_seconds(cost.seconds_per_epoch)}",
        f"one trial    {count_things(config.max_epochs, 'epoch')}{folds}: {format_seconds(trial)}",
        f"the search   {trials}{confirmed}{refit}: {early}at most {whole.max_epochs:,} epochs",
        f"time         {hours}{format_seconds(whole.max_hours * 3600)}, {slots}; without bar, test and export",
        f"disk         {whole.disk_mb:,.0f} MB of checkpoints and export; {whole.free_mb:,.0f} MB are free{room}",
        "The search was not started.",
    ]
