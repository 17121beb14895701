"""What a result costs the driver: CPU time of the searcher, the scheduler and the callbacks of a search, by trials.

python -m benchmarks.driver --trials 100 600 2000

The parts are those of a search, on real files: Optuna's journal, the trials' folders, an MLflow store in SQLite. Tune
and its trials are replaced by a loop in virtual time, so that what is measured comes on top of bare Ray Tune. Trials
are drawn at random: what TPE itself takes grows with the trials, and is not counted here. Counted is Tune's thread;
the last column is the thread that writes to MLflow beside it, and for which no trial waits.
"""

import argparse
import dataclasses
import functools
import io
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.virtual_tune import VirtualTrial, VirtualTune
from search.command_line.telemetry import silence_telemetry
from search.space.config import SearchConfig, find_space, load_config
from search.stages.trials import make_searcher
from search.study.study_file import make_study_file
from search.study.trial_attributes import TrialFinder
from search.tracking.bar_runs import Bars
from search.tracking.callback import TrackingCallback
from search.tracking.search_queue import SearchQueue
from search.tracking.tracker import Tracker
from search.tuning.epoch_log import EpochLog
from search.tuning.progress import SearchProgress
from search.tuning.scheduler import make_scheduler
from search.tuning.screen import ProgressCallback

SLOTS, CLASSES = 8, ("tumor", "stroma", "lymphocyte", "necrosis", "blood_vessel")
PARTS = ("searcher", "scheduler", "epoch log", "screen", "queue")
BESIDE = "MLflow, beside"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 600, 2000], help="default: 100 600 2000")
    given = parser.parse_args(argv)
    silence_telemetry()
    names = ("trials", "results", "ms a result", *PARTS, BESIDE)
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for n_trials in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            costs, n_results = measure(Path(folder), n_trials)
        each = {part: 1e3 * seconds / n_results for part, seconds in costs.items()}
        figures = (sum(each[part] for part in PARTS), *(each[part] for part in (*PARTS, BESIDE)))
        print(f"| {n_trials:,} | {n_results:,} | {' | '.join(f'{one:.1f}' for one in figures)} |", flush=True)
    return 0


def measure(folder: Path, n_trials: int) -> tuple[dict[str, float], int]:
    """Returns the CPU seconds of each part over a whole search, and how many results it had."""
    plain = load_config(find_space("lora.yaml"))
    sampler = dataclasses.replace(plain.sampler, kind="random")
    config = dataclasses.replace(plain, num_trials=n_trials, sampler=sampler)
    costs: dict[str, float] = defaultdict(float)
    searcher, callbacks = _make_parts(folder, config)
    scheduler = make_scheduler(config.scheduler, config.max_epochs, config.objective.metric, SLOTS)
    for part, which, names in (
        ("searcher", searcher, ("suggest", "on_trial_result", "on_trial_complete")),
        ("scheduler", scheduler, ("on_trial_add", "on_trial_result", "on_trial_complete", "choose_trial_to_run")),
    ):
        for name in names:
            setattr(which, name, _count_time(getattr(which, name), costs, part))
    tune = _Driver(searcher, scheduler, functools.partial(_draw_results, config), n_trials, SLOTS)
    tune.callbacks, tune.costs = callbacks, costs
    whole_s, own_s = time.process_time(), time.thread_time()
    n_results = len(tune.run())
    while callbacks["queue"].queue.flush():  # some seconds at a time
        pass
    costs[BESIDE] = (time.process_time() - whole_s) - (time.thread_time() - own_s)
    return costs, n_results


class _Driver(VirtualTune):
    """Virtual Tune that calls callbacks, and counts their time."""

    callbacks: dict[str, Any]
    costs: dict[str, float]

    def _train(self, trial: VirtualTrial) -> None:
        if not trial.n_epochs:
            self._call("on_trial_start", trial)
        super()._train(trial)

    def _process(self, trial: VirtualTrial) -> None:
        self._call("on_trial_result", trial, result={**trial.results[trial.n_epochs], "trial_id": trial.trial_id})
        super()._process(trial)
        if trial.is_finished():
            self._call("on_trial_complete", trial)

    def _call(self, hook: str, trial: VirtualTrial, **info: Any) -> None:
        for part, callback in self.callbacks.items():
            _count_time(getattr(callback, hook), self.costs, part)(0, self.trials, trial, **info)


def _count_time(work: Callable[..., Any], costs: dict[str, float], part: str) -> Callable[..., Any]:
    def count(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            costs[part] += time.thread_time() - start

    return count


def _make_parts(folder: Path, config: SearchConfig) -> tuple[Any, dict[str, Any]]:
    """Returns the searcher and the callbacks of a search in a folder."""
    record: Any = SimpleNamespace(
        config=config.to_dict(), search_id="driver", context=SimpleNamespace(seed=0, max_epochs=config.max_epochs)
    )
    study_file = make_study_file(folder, record)
    tracker = Tracker.connect("driver", f"sqlite:///{folder / 'mlflow.db'}").open_experiment("driver", {})
    parent = tracker.start_run("search", "search", {})
    trial_tags = TrialFinder(study_file).find_origin
    progress = SearchProgress(config.num_trials, config.max_epochs, SLOTS, 0.5, time.monotonic(), trial_tags)
    bar = {f"val_{kind}{name}": 0.5 for kind in ("dice", "iou") for name in ("", *(f"/{one}" for one in CLASSES))}
    tracking = TrackingCallback(
        SearchQueue(tracker, parent, folder),
        Bars({**bar, "val_dice_min_class": 0.5}, CLASSES),
        config.max_epochs,
        {},
        trial_tags,
    )
    screen = ProgressCallback(progress, "driver", Console(file=io.StringIO()))
    return make_searcher(config, study_file), {
        "epoch log": EpochLog(folder / "trials"),
        "screen": screen,
        "queue": tracking,
    }


def _draw_results(config: SearchConfig, params: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Returns a trial's results with about as many figures as a real one's, drawn by its learning rate."""
    rng = np.random.default_rng(int(1e9 * params["optim.lr"]))
    names = ["val_iou", "val_dice_min_class", "train_loss", "val_loss", "lr", "images_per_s", "seconds/train"]
    names += [f"val_{kind}/{one}" for kind in ("dice", "iou") for one in CLASSES]
    names += ["train_focal", "train_dice", "train_iou", "seconds/validate", "data_wait_fraction", "peak_memory_mb"]
    return tuple(
        {
            **dict(zip(names, rng.random(len(names)).tolist(), strict=True)),
            "val_dice": float(rng.random()),
            "training_iteration": epoch,
            "time_this_iter_s": float(rng.uniform(1, 2)),
            "done": epoch == config.max_epochs,
        }
        for epoch in range(1, config.max_epochs + 1)
    )


if __name__ == "__main__":
    sys.exit(main())
