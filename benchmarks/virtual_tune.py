"""Ray Tune's controller in virtual time: real schedulers and searchers, trials whose results are known beforehand."""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from search.tuning.reasons import find_reason

Result = Mapping[str, Any]


@dataclass(eq=False)
class VirtualTrial:
    """What schedulers look at in a trial of Tune, and its results by epoch; the last one has ``done``."""

    trial_id: str
    config: dict[str, Any]
    results: tuple[Result, ...]
    status: str = Trial.PENDING
    n_epochs: int = 0
    last_result: dict[str, Any] = field(default_factory=dict)
    is_saving: bool = False

    def is_finished(self) -> bool:
        """Whether it has ended, as in Tune."""
        return self.status in (Trial.TERMINATED, Trial.ERROR)


class Event(NamedTuple):
    """The end of an epoch: the virtual time in seconds, the trial, and the epoch from 1."""

    time_s: float
    trial: VirtualTrial
    epoch: int


class VirtualTune:
    """Runs a search as ``TuneController`` of ray 2.60 does, one step of its loop an epoch that ends.

    In each step the searcher is asked for trials as :class:`search.tuning.trial_generator.TrialGenerator` asks it, the
    scheduler chooses a trial to run, waiting trials take free slots in the order in which they came to wait, and one
    result is processed: the scheduler decides, then the searcher learns. Epochs take their ``time_this_iter_s``;
    nothing else takes time. Schedulers find in it what they use of the controller.
    """

    def __init__(
        self,
        searcher: Searcher,
        scheduler: TrialScheduler,
        look_up: Callable[[dict[str, Any]], tuple[Result, ...]],
        n_trials: int,
        n_slots: int,
    ) -> None:
        """Prepares a search.

        Args:
            searcher: Proposes configurations, and learns from results.
            scheduler: Decides after each result.
            look_up: Returns the results of a configuration, one an epoch.
            n_trials: How many to start.
            n_slots: How many run at once.
        """
        self.scheduler, self._look_up, self._n_trials, self._n_slots = scheduler, look_up, n_trials, n_slots
        self._limiter = ConcurrencyLimiter(searcher, n_slots)
        self.search_alg = SimpleNamespace(searcher=self._limiter, is_finished=self._has_all)
        self.trials: list[VirtualTrial] = []
        self.events: list[Event] = []
        self._has_no_more = False
        self._waiting: list[VirtualTrial] = []
        self._running: list[tuple[float, int, VirtualTrial]] = []
        self._time_s, self._n_begun = 0.0, 0

    def run(self) -> list[Event]:
        """Runs the search to its end; returns the epochs in the order in which they ended."""
        while True:
            while self._propose() | self._choose() | self._start():
                pass
            if not self._running:
                break
            self._time_s, _, trial = heapq.heappop(self._running)
            if trial.status == Trial.RUNNING:  # else a scheduler has stopped it from outside
                self._process(trial)
        stuck = [trial.trial_id for trial in self.trials if not trial.is_finished()]
        assert not stuck, f"the search hangs: nothing runs, and these trials have not ended: {stuck}"
        return self.events

    def get_trials(self) -> list[VirtualTrial]:
        """Returns all trials, as in Tune."""
        return self.trials

    def get_live_trials(self) -> list[VirtualTrial]:
        """Returns the trials that have not ended, as in Tune."""
        return [trial for trial in self.trials if not trial.is_finished()]

    def stop_trial(self, trial: VirtualTrial) -> None:
        """Ends a trial, as in Tune: a paused one is removed, a running one is complete."""
        if trial.is_finished():
            return
        controller: Any = self
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(controller, trial, dict(trial.last_result))  # type: ignore[arg-type]
            self._limiter.on_trial_complete(trial.trial_id, result={**trial.last_result, **find_reason(trial)})
        else:
            self.scheduler.on_trial_remove(controller, trial)  # type: ignore[arg-type]
            self._limiter.on_trial_complete(trial.trial_id, result=find_reason(trial) or None)
        trial.status = Trial.TERMINATED
        self._waiting = [each for each in self._waiting if each is not trial]

    def pause_trial(self, trial: VirtualTrial, should_checkpoint: bool = True) -> None:
        """Takes a trial off its slot, as in Tune."""
        trial.status = Trial.PAUSED

    def _propose(self) -> bool:
        """Asks for trials until the searcher has none, for now or at all; returns whether one came."""
        n_before = len(self.trials)
        while not self._has_all() and self._count(Trial.PENDING) < self._n_slots:
            self._limiter.max_concurrent = self._n_slots + self._count(Trial.PAUSED)
            if getattr(self.scheduler, "has_waiting", bool)():
                break
            trial_id = f"{len(self.trials):05d}"
            config = self._limiter.suggest(trial_id)
            if config is None:
                break
            if isinstance(config, str):
                self._has_no_more = True
                break
            trial = VirtualTrial(trial_id, config, self._look_up(config))
            self.trials.append(trial)
            self._waiting.append(trial)
            self.scheduler.on_trial_add(self, trial)  # type: ignore[arg-type]
        return len(self.trials) > n_before

    def _has_all(self) -> bool:
        return self._has_no_more or len(self.trials) >= self._n_trials

    def _count(self, status: str) -> int:
        return sum(trial.status == status for trial in self.trials)

    def _choose(self) -> bool:
        """Lets the scheduler choose a trial to run; returns whether one began to wait, or was ended on the way."""
        n_live = len(self.get_live_trials())
        trial: Any = self.scheduler.choose_trial_to_run(self)  # type: ignore[arg-type]
        if trial is None or trial.status != Trial.PAUSED:
            return len(self.get_live_trials()) < n_live
        trial.status = Trial.PENDING
        self._waiting.append(trial)
        return True

    def _start(self) -> bool:
        """Gives free slots to waiting trials; returns whether one started."""
        has_started = False
        while self._waiting and self._count(Trial.RUNNING) < self._n_slots:
            trial = self._waiting.pop(0)
            trial.status = Trial.RUNNING
            self._train(trial)
            has_started = True
        return has_started

    def _train(self, trial: VirtualTrial) -> None:
        ends_s = self._time_s + float(trial.results[trial.n_epochs]["time_this_iter_s"])
        self._n_begun += 1  # equal times: in the order in which the epochs began
        heapq.heappush(self._running, (ends_s, self._n_begun, trial))

    def _process(self, trial: VirtualTrial) -> None:
        result = {**trial.results[trial.n_epochs], "trial_id": trial.trial_id}
        trial.n_epochs += 1
        self.events.append(Event(self._time_s, trial, trial.n_epochs))
        decision = TrialScheduler.STOP
        if not result.get("done"):
            decision = self.scheduler.on_trial_result(self, trial, result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP:
            result["done"] = True
        else:
            self._limiter.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        elif decision == TrialScheduler.PAUSE:
            self.pause_trial(trial)
        elif trial.status == Trial.RUNNING:
            self._train(trial)
