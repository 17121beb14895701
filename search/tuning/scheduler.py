"""Which trials may go on: the schedulers of a space file, by name."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.space.kinds import SchedulerConfig
from search.space.objective import DICE
from search.tuning.promotion import PromotionScheduler


def make_scheduler(
    config: SchedulerConfig, max_epochs: int, metric: str = DICE, concurrent: int | None = None
) -> TrialScheduler:
    """Builds the scheduler of a search, which compares trials by a metric that is to be large.

    ``asha`` is asynchronous successive halving (Li et al. 2018, arXiv 1810.05934) with one bracket: a trial
    is judged at epochs ``grace_period * reduction_factor ** k`` and goes on only if it is among the best
    ``1 / reduction_factor`` of those that came there before it (the first to come always goes on); at
    ``max_epochs`` every trial ends. ``promotion`` has the same rungs, see :class:`PromotionScheduler`; it needs to know
    how many trials run at once, unless it is asked for a trial only where there is a place. ``none`` stops nothing, not
    even at ``max_epochs``: the run's own stop rule has to do that.

    The scheduler holds the metric itself, so ``TuneConfig`` must not be given metric and mode again (Tune
    refuses two). ASHA never stops a trial whose metric is NaN, nor does such a trial move the bar for others;
    a trainable has to end itself on NaN, as nothing else does before ``max_epochs``. Tune does not save what a
    scheduler has seen: after a stop, :func:`replay_curves` shows it again.
    """
    grace, factor = config.count_grace_epochs(max_epochs), config.reduction_factor
    if config.kind == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if config.kind == "promotion":
        rungs = [grace]
        while rungs[-1] * factor < max_epochs:
            rungs.append(rungs[-1] * factor)
        rungs = [rung for rung in rungs if rung < max_epochs]
        return PromotionScheduler(metric, max_epochs, rungs, factor, config.quorum, concurrent)
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric=metric,
        mode="max",
        max_t=max_epochs,
        grace_period=grace,
        reduction_factor=factor,
    )


def replay_curves(scheduler: TrialScheduler, curves: Mapping[str, Mapping[int, float]], metric: str = DICE) -> None:
    """Shows a new scheduler what an earlier one has seen of the same search, so that it judges as that one would.

    The curves are values of the metric by Ray's trial id and epoch, in the order in which the trials were made.
    """
    # Ray's look at a trial's id and its result alone.
    tune: Any = None
    for trial_id, curve in curves.items():
        if isinstance(scheduler, PromotionScheduler):
            scheduler.take_up(trial_id, sorted(curve.items()))
            continue
        trial: Any = SimpleNamespace(trial_id=trial_id)
        scheduler.on_trial_add(tune, trial)
        for epoch, value in sorted(curve.items()):
            scheduler.on_trial_result(tune, trial, {"training_iteration": epoch, metric: value})
