"""The simulator against Ray Tune itself, and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from benchmarks.curve_table import CurveTable
from benchmarks.known_answers import Answers
from benchmarks.rules import ListedSearcher, MemoryStudyFile, Replay, change_space, make_rule
from benchmarks.virtual_tune import VirtualTune
from search.space.starting_points import StartingPoint
from search.tuning.scheduler import make_scheduler
from search.tuning.trial_generator import TrialGenerator


def list_ends(study_file: Any) -> list[tuple[Any, ...]]:
    """Returns how each trial of a study ended: its state, parameters and curve."""
    trials = study_file.open().get_trials(deepcopy=False)
    return [(trial.state.name, trial.params, trial.intermediate_values) for trial in trials]


def find_nothing(trial_id: str) -> tuple[Any, ...]:
    return ()


def find_searcher(search: VirtualTune) -> Any:
    return search.search_alg.searcher.searcher


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asha", "promotion"])
def test_ray_tune_decides_as_the_simulator_does(
    local_ray: None, table: CurveTable, space: Path, kind: str, tmp_path: Path
) -> None:
    config = change_space(space, kind, {"scheduler": {"kind": kind, "grace_period": 1, "reduction_factor": 2}}, 4)
    answers = Answers(table, config)
    rule = make_rule(config, tmp_path)

    def prepare() -> VirtualTune:
        return rule(Replay(answers, 12, 1, seed=3))

    virtual = prepare()
    virtual.run()
    expected = list_ends(find_searcher(virtual)._study_file)
    assert {state for state, *_ in expected} == {"COMPLETE", "PRUNED"}

    curves = {tuple(sorted(row.params.items())): list(row.metrics["val_dice"]) for row in table.rows.values()}

    class FromTable(tune.Trainable):
        """Reads its epochs from the table; in this function, so that it travels to the worker by value."""

        def setup(self, config: dict[str, Any]) -> None:
            self.curve = curves[tuple(sorted(config.items()))]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, float]:
            return {"val_dice": self.curve[self.iteration]}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "nothing").touch()

        def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
            pass

    searcher = find_searcher(prepare())
    study_file: MemoryStudyFile = searcher._study_file
    scheduler: Any = make_scheduler(config.scheduler, config.max_epochs, concurrent=1)
    tuner = tune.Tuner(
        FromTable,
        tune_config=tune.TuneConfig(
            num_samples=12,
            search_alg=TrialGenerator(searcher, 1, find_nothing, pausing=scheduler if kind == "promotion" else None),
            scheduler=scheduler,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="real",
            storage_path=str(tmp_path),
            stop={"training_iteration": config.max_epochs},
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    )
    tuner.fit()
    assert list_ends(study_file) == expected


class PauseFirst(FIFOScheduler):
    """Pauses every trial after its first epoch."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.PAUSE if result["training_iteration"] == 1 else TrialScheduler.CONTINUE


def list_points(n: int) -> list[StartingPoint]:
    return [StartingPoint(str(number), {"number": number}) for number in range(n)]


def look_up(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Three epochs, of 1 s plus the trial's number each."""
    epochs = range(1, 4)
    return tuple(
        {"training_iteration": epoch, "time_this_iter_s": 1 + config["number"], "done": epoch == 3} for epoch in epochs
    )


def run(scheduler: TrialScheduler, n_trials: int, n_slots: int) -> list[tuple[float, int, int]]:
    searcher: Searcher = ListedSearcher(list_points(n_trials))
    search = VirtualTune(searcher, scheduler, look_up, n_trials, n_slots)
    return [(event.time_s, event.trial.config["number"], event.epoch) for event in search.run()]


def test_epochs_take_their_time_and_slots_are_shared_in_the_order_of_trials() -> None:
    assert run(FIFOScheduler(), 2, 1) == [(1, 0, 1), (2, 0, 2), (3, 0, 3), (5, 1, 1), (7, 1, 2), (9, 1, 3)]
    both = [(1, 0, 1), (2, 1, 1), (2, 0, 2), (3, 0, 3), (4, 1, 2), (6, 2, 1), (6, 1, 3), (9, 2, 2), (12, 2, 3)]
    assert run(FIFOScheduler(), 3, 2) == both


def test_paused_trials_give_their_slot_to_new_ones() -> None:
    beside = run(PauseFirst(), 2, 1)
    assert [(number, epoch) for _, number, epoch in beside] == [(0, 1), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]


def test_a_scheduler_that_wakes_nobody_is_reported() -> None:
    class Sleep(PauseFirst):
        def choose_trial_to_run(self, tune_controller: Any) -> Any:
            return None

    with pytest.raises(AssertionError, match="hangs.*'00000'"):
        run(Sleep(), 1, 1)


def test_everything_in_full_by_hand(table: CurveTable, space: Path, tmp_path: Path) -> None:
    config = change_space(space, "full", {"scheduler": {"kind": "none"}}, 4)
    replay = Replay(Answers(table, config), 5, 1, seed=0)
    events = make_rule(config, tmp_path)(replay).run()
    assert [event.epoch for event in events] == [1, 2, 3, 4] * 5
    keys = [replay.answers.find_key(event.trial.config) for event in events[::4]]
    assert keys == ["first", *(int(point.name.removeprefix("row ")) for point in replay.draw_rows()[:4])]
    assert events[-1].time_s == sum(sum(table.rows[key].metrics["seconds/train"]) for key in keys if key is not None)
