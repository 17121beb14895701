"""Which trials may go on: the schedulers of a space file, by name."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.space.kinds import SchedulerConfig
from search.space.objective import DICE
from search.tuning.asha import Asha, list_rungs
from search.tuning.promotion import PromotionScheduler
from search.tuning.racing import RacingScheduler


def make_scheduler(
    config: SchedulerConfig, max_epochs: int, metric: str = DICE, concurrent: int | None = None
) -> TrialScheduler:
    """Builds the scheduler of a search, which compares trials by a metric that is to be large.

    ``asha`` is asynchronous successive halving (Li et al. 2018, arXiv 1810.05934) with one bracket: a trial
    is judged at epochs ``grace_period * reduction_factor ** k`` and goes on only if it is among the best
    ``1 / reduction_factor`` of those that came there before it (the first to come always goes on); at
    ``max_epochs`` every trial ends. ``promotion`` has the same rungs, see :class:`PromotionScheduler`; it needs to know
    how many trials run at once, unless it is asked for a trial only where there is a place. For ``racing`` see
    :class:`RacingScheduler`. ``none`` stops nothing, not even at ``max_epochs``: the run's own stop rule has to do
    that.

    The scheduler holds the metric itself, so ``TuneConfig`` must not be given metric and mode again (Tune
    refuses two). ASHA never stops a trial whose metric is NaN, nor does such a trial move the bar for others;
    a trainable has to end itself on NaN, as nothing else does before ``max_epochs``. Tune does not save what a
    scheduler has seen: after a stop, :func:`replay_results` shows it again.
    """
    grace, factor = config.count_grace_epochs(max_epochs), config.reduction_factor
    if config.kind == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if config.kind == "racing":
        return RacingScheduler(metric, max_epochs, grace, config.min_pairs, config.p_value)
    if config.kind == "promotion":
        rungs = list_rungs(grace, factor, max_epochs)
        return PromotionScheduler(metric, max_epochs, rungs, factor, config.quorum, config.moved, concurrent)
    return Asha(metric, max_epochs, grace, factor, config.moved)


def replay_results(scheduler: TrialScheduler, results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    """Shows a new scheduler what an earlier one has seen of the same search, so that it judges as that one would.

    The results are those of whole epochs by Ray's trial id and epoch, in the order in which the trials were made.
    """
    # Schedulers look at a trial's id and its result alone.
    tune: Any = None
    for trial_id, by_epoch in results.items():
        if isinstance(scheduler, PromotionScheduler):
            scheduler.take_up(trial_id, by_epoch)
            continue
        trial: Any = SimpleNamespace(trial_id=trial_id)
        scheduler.on_trial_add(tune, trial)
        for epoch in sorted(by_epoch):
            scheduler.on_trial_result(tune, trial, {**by_epoch[epoch], "training_iteration": epoch})
