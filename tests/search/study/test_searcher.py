"""Tests of search.study.searcher: by hand over real journal files, and inside a real run of Ray Tune."""

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.search import Searcher

from search.space.kinds import SchedulerConfig, StopConfig
from search.space.objective import PAIR
from search.space.parameters import Choice, Condition, FloatRange, IntRange
from search.space.starting_points import StartingPoint
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile
from search.study.trial_attributes import read_curve
from search.tuning.scheduler import make_scheduler

SPACE = {"x": FloatRange(0.0, 1.0), "n": IntRange(1, 4), "kind": Choice(("a", "b"))}
CONDITIONAL_SPACE = {
    "x": FloatRange(0.0, 1.0, when=(Condition("kind", ("a",)),)),
    "n": IntRange(1, 4, when=(Condition("kind", ("a", "b")), Condition("on", (True,)))),
    "kind": Choice(("a", "b")),
    "on": Choice((True, False)),
}
MAX_EPOCHS = 3
SIZE = 100.0


@pytest.fixture
def study_file(tmp_path: Path) -> StudyFile:
    return StudyFile(tmp_path / "study.journal", "s", seed=7, startup_trials=3)


@pytest.fixture
def pair_file(study_file: StudyFile) -> StudyFile:
    return replace(study_file, modes=("max", "min"))


def make_searcher(study_file: StudyFile, **changes: Any) -> StudySearcher:
    metrics = ("val_dice",) if len(study_file.modes) == 1 else PAIR
    plan = {"space": SPACE, "num_trials": 30, "max_epochs": MAX_EPOCHS, "metrics": metrics, **changes}
    return StudySearcher(study_file, **plan)


def make_points(**points: Mapping[str, Any]) -> tuple[StartingPoint, ...]:
    return tuple(StartingPoint(name, values) for name, values in points.items())


def result(epoch: int, value: float | None, size: float = SIZE) -> dict[str, Any]:
    return {"training_iteration": epoch, "val_dice": value, "trained_parameters": size}


def finish(searcher: StudySearcher, trial_id: str, curve: list[Any], error: bool = False, size: float = SIZE) -> None:
    """Plays a trial as Tune does: its last result goes to ``on_trial_complete`` alone."""
    for epoch, value in enumerate(curve[:-1], start=1):
        searcher.on_trial_result(trial_id, result(epoch, value, size))
    searcher.on_trial_complete(trial_id, None if error else result(len(curve), curve[-1], size), error=error)


def last_trial(study_file: StudyFile) -> FrozenTrial:
    return study_file.open().trials[-1]


def list_names(study_file: StudyFile) -> list[str | None]:
    return [trial.user_attrs.get("starting_point") for trial in study_file.open().trials]


def restart(searcher: StudySearcher) -> StudySearcher:
    """What a new process has: the searcher without its open study."""
    fresh: StudySearcher = pickle.loads(pickle.dumps(searcher))
    return fresh


def propose(
    searcher: StudySearcher, n_trials: int, restarts: bool, play: Callable[[StudySearcher, str, Any], None]
) -> list[Any]:
    """Returns the configurations of trials that are played one after the other, also with a restart after each."""
    configs = []
    for number in range(n_trials):
        configs.append(searcher.suggest(f"t{number}"))
        play(searcher, f"t{number}", configs[-1])
        searcher = restart(searcher) if restarts else searcher
    return configs


@pytest.mark.parametrize(
    ("curve", "error", "ended", "best"),
    [
        ([0.2, 0.6, 0.5], False, (TrialState.COMPLETE, 0.6, None), (0.6, 2)),
        ([0.6, 0.6, 0.6], False, (TrialState.COMPLETE, 0.6, None), (0.6, 1)),
        ([0.2, 0.6, 0.5, 0.7], False, (TrialState.COMPLETE, 0.7, None), (0.7, 4)),
        ([0.6, 0.4], False, (TrialState.PRUNED, 0.4, None), (0.6, 1)),
        ([0.4], False, (TrialState.PRUNED, 0.4, None), (0.4, 1)),
        ([0.4, math.nan, 0.5], False, (TrialState.COMPLETE, 0.5, None), (0.5, 3)),
        ([0.4, 0.5, math.nan], False, (TrialState.FAIL, None, "val_dice is nan at epoch 3"), (0.5, 2)),
        ([math.inf], False, (TrialState.FAIL, None, "val_dice is inf at epoch 1"), (None, None)),
        ([None], False, (TrialState.FAIL, None, "val_dice is None at epoch 1"), (None, None)),
        ([0.4, 0.5], True, (TrialState.FAIL, None, "the trial raised an error"), (0.4, 1)),
    ],
)
def test_the_study_has_how_a_trial_ended(study_file: StudyFile, curve: Any, error: bool, ended: Any, best: Any) -> None:
    searcher = make_searcher(study_file)
    config = searcher.suggest("t1")
    finish(searcher, "t1", curve, error)
    trial = last_trial(study_file)
    assert (trial.params, trial.user_attrs["ray_trial_id"]) == (config, "t1")
    assert (trial.state, trial.value, trial.user_attrs.get("reason")) == ended
    assert (trial.user_attrs.get("best_value"), trial.user_attrs.get("best_epoch")) == best
    reported = curve[:-1] if error else curve
    finite = {epoch: v for epoch, v in enumerate(reported, start=1) if v is not None and math.isfinite(v)}
    assert trial.intermediate_values == finite


def test_a_trial_that_ends_itself_as_complete_is_complete_and_says_why(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("t1")
    searcher.on_trial_result("t1", result(1, 0.6))
    searcher.on_trial_complete("t1", {**result(2, 0.4), "stopped_by": "patience", "complete": True})
    trial = last_trial(study_file)
    assert (trial.state, trial.value, trial.user_attrs["stopped_by"]) == (TrialState.COMPLETE, 0.6, "patience")


@pytest.mark.parametrize(
    ("dice", "size", "error", "ended"),
    [
        ([0.2, 0.6, 0.5], SIZE, False, (TrialState.COMPLETE, [0.6, SIZE], None)),
        ([0.6, 0.4], SIZE, False, (TrialState.PRUNED, None, None)),
        ([0.4, 0.5, math.nan], SIZE, False, (TrialState.FAIL, None, "val_dice is nan at epoch 3")),
        ([0.4, 0.5], math.nan, False, (TrialState.FAIL, None, "trained_parameters is nan at epoch 2")),
        ([0.4, 0.5], SIZE, True, (TrialState.FAIL, None, "the trial raised an error")),
    ],
)
def test_the_study_has_two_objectives_with_their_curve(
    pair_file: StudyFile, dice: list[float], size: float, error: bool, ended: Any
) -> None:
    searcher = make_searcher(pair_file)
    searcher.suggest("t1")
    finish(searcher, "t1", dice, error, size)
    trial = last_trial(pair_file)
    assert (trial.state, trial.values, trial.user_attrs.get("reason")) == ended
    reported = dice[:-1] if error else dice
    finite = {epoch: [v, size] for epoch, v in enumerate(reported, start=1) if math.isfinite(v + size)}
    assert read_curve(trial) == finite
    assert trial.user_attrs.get("best_value") == (max(v for v, _ in finite.values()) if finite else None)


@pytest.mark.parametrize("outcome", [None, {}, {"config/x": 1}])
def test_a_trial_stopped_before_its_first_result_fails(study_file: StudyFile, outcome: dict[str, Any] | None) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("t1")
    searcher.on_trial_complete("t1", outcome)
    assert last_trial(study_file).state == TrialState.FAIL
    assert last_trial(study_file).user_attrs["reason"] == "stopped before its first result"


def test_the_rule_that_ended_a_trial_is_kept(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file)
    for trial_id in ("t0", "t1"):
        searcher.suggest(trial_id)
    searcher.on_trial_complete("t0", {**result(1, 0.5), "stopped_by": "asha: 2nd of 2 at epoch 1, one in 3 goes on"})
    searcher.on_trial_result("t1", result(1, 0.6))
    searcher.on_trial_complete("t1", {"stopped_by": "promotion: 1st of 1"})  # a paused one has no last result
    first, second = study_file.open().trials
    assert first.user_attrs["stopped_by"] == "asha: 2nd of 2 at epoch 1, one in 3 goes on"
    assert (second.user_attrs["stopped_by"], second.state, second.user_attrs["best_value"]) == (
        *("promotion: 1st of 1", TrialState.PRUNED),
        0.6,
    )


@pytest.mark.parametrize(
    ("values", "min_gain", "n_begun"),
    [
        ([0.5, 0.6, 0.6, 0.5, 0.9], 0.0, 4),  # two trials have not raised the best
        ([0.5, 0.6, 0.6, 0.7, 0.7, 0.7, 0.9], 0.0, 6),
        ([0.5, 0.6, 0.7, 0.8], 0.3, 3),
        ([0.5, 0.6], 0.0, 2),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_a_plateau_ends_the_search_and_a_resume_knows_it(
    study_file: StudyFile, values: list[float], min_gain: float, n_begun: int, restarts: bool
) -> None:
    stop = StopConfig(patience_trials=2, min_gain=min_gain)
    searcher = make_searcher(study_file, num_trials=len(values), stop=stop)

    def play(searcher: StudySearcher, trial_id: str, config: Any) -> None:
        finish(searcher, trial_id, [values[int(trial_id[1:])]] * MAX_EPOCHS)

    configs = propose(searcher, len(values), restarts, play)
    assert [config != searcher.FINISHED for config in configs] == [True] * n_begun + [False] * (len(values) - n_begun)
    assert make_searcher(study_file, num_trials=len(values), stop=stop).ended_early() == (n_begun < len(values))


def test_minimizes(study_file: StudyFile) -> None:
    study_file = replace(study_file, modes=("min",))
    searcher = make_searcher(study_file)
    searcher.suggest("t1")
    finish(searcher, "t1", [0.5, 0.2, 0.3])
    assert last_trial(study_file).value == 0.2


def test_ends_after_num_trials_and_goes_on_in_the_same_study_with_more(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file, num_trials=2)
    assert isinstance(searcher.suggest("t1"), dict)
    finish(searcher, "t1", [0.1], error=True)  # a failed trial has had its turn
    assert isinstance(searcher.suggest("t2"), dict)
    assert searcher.suggest("t3") == Searcher.FINISHED
    assert len(study_file.open().trials) == 2
    finish(searcher, "t2", [0.1, 0.2, 0.3])
    assert isinstance(make_searcher(study_file, num_trials=3).suggest("t3"), dict)


@pytest.mark.parametrize("late", [result(2, 0.9), result(9, math.nan), None])
def test_what_comes_after_the_end_is_ignored(study_file: StudyFile, late: dict[str, Any] | None) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("t1")
    finish(searcher, "t1", [0.5, 0.4, 0.3])
    before = last_trial(study_file)
    if late:
        searcher.on_trial_result("t1", late)
    searcher.on_trial_complete("t1", late, error=late is None)
    searcher.on_trial_complete("never seen", late)
    assert last_trial(study_file) == before


def test_an_epoch_that_is_reported_twice_keeps_its_first_value(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("t1")
    for value in (0.5, 0.7):
        searcher.on_trial_result("t1", result(1, value))
    assert last_trial(study_file).intermediate_values == {1: 0.5}


POINTS = make_points(plain={"x": 0.5, "n": 2, "kind": "a"}, bold={"x": 1})


def test_starting_points_come_first_and_once(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file, starting_points=POINTS)
    assert searcher.suggest("t1") == POINTS[0].values
    finish(searcher, "t1", [0.5])
    searcher = restart(searcher)
    bold = searcher.suggest("t2")
    assert isinstance(bold, dict) and set(bold) == set(SPACE)
    assert bold["x"] == 1.0 and isinstance(bold["x"], float)
    searcher.suggest("t3")
    assert list_names(study_file) == ["plain", "bold", None]


def test_a_trial_that_was_being_drawn_is_drawn_again(study_file: StudyFile, tmp_path: Path) -> None:
    """Killed after any of the lines that a draw writes, the next process draws the same trial, under its number."""
    through = make_searcher(replace(study_file, journal=tmp_path / "through"), starting_points=POINTS[:1])
    expected = [through.suggest(f"t{number}") for number in range(2)]
    searcher = make_searcher(study_file, starting_points=POINTS[:1])
    assert searcher.suggest("t0") == expected[0]
    before = study_file.journal.read_bytes()
    searcher.suggest("t1")
    drawn = study_file.journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(drawn) > len(SPACE)
    for n_lines in range(len(drawn)):
        study_file.journal.write_bytes(before + b"".join(drawn[:n_lines]) + drawn[n_lines][:9])
        study_file.journal.with_name("study.journal.undo").write_text(str(len(before)))
        searcher = restart(searcher)
        assert searcher.suggest("t1") == expected[1]
        assert [trial.number for trial in study_file.open().trials] == [0, 1]


def test_an_end_that_was_being_written_is_removed(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("t")
    searcher.on_trial_result("t", result(1, 0.3))
    before = study_file.journal.read_bytes()
    searcher.on_trial_complete("t", result(2, 0.4))
    lines = study_file.journal.read_bytes()[len(before) :].splitlines(keepends=True)
    study_file.journal.write_bytes(before + lines[0])
    study_file.journal.with_name("study.journal.undo").write_text(str(len(before)))
    searcher = restart(searcher)
    searcher.suggest("t")
    assert last_trial(study_file).intermediate_values == {1: 0.3}
    searcher.on_trial_complete("t", result(2, 0.4))
    assert last_trial(study_file).state == TrialState.PRUNED


@pytest.mark.parametrize("modes", [("max",), ("max", "min")], ids=["one objective", "two"])
def test_unfinished_trials_keep_their_values(study_file: StudyFile, modes: Any) -> None:
    study_file = replace(study_file, modes=modes)
    searcher = make_searcher(study_file, num_trials=3)
    configs = {name: searcher.suggest(name) for name in ("ended", "running")}
    searcher.on_trial_result("running", result(1, 0.3))
    finish(searcher, "ended", [0.1, 0.2, 0.3])

    searcher = restart(searcher)
    assert {name: searcher.suggest(name) for name in configs} == configs
    finish(searcher, "ended", [0.1, 0.2, 0.9])  # trained again for want of a checkpoint
    finish(searcher, "running", [0.9, 0.4, 0.2])
    assert searcher.suggest("new") not in configs.values()
    assert searcher.suggest("too many") == Searcher.FINISHED
    ended, running, _ = study_file.open().trials
    size = [SIZE][: len(modes) - 1]
    assert (ended.values, running.values) == ([0.3, *size], [0.4, *size])
    assert read_curve(running) == {1: [0.3, *size], 2: [0.4, *size], 3: [0.2, *size]}


def test_a_failure_is_kept_with_its_reason(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file)
    searcher.suggest("died")
    searcher.note_failure("died", "its worker died")
    searcher.on_trial_complete("died", error=True)
    searcher.suggest("diverged")
    searcher.on_trial_complete("diverged", {**result(1, math.nan), "failure": "the loss became nan at step 3"})
    found = [(trial.state, trial.user_attrs["reason"]) for trial in study_file.open().trials]
    assert found == [(TrialState.FAIL, "its worker died"), (TrialState.FAIL, "the loss became nan at step 3")]


@pytest.mark.parametrize("space", [SPACE, CONDITIONAL_SPACE], ids=["plain", "conditional"])
def test_proposals_are_the_same_with_and_without_restarts(tmp_path: Path, space: Any) -> None:
    def play(searcher: StudySearcher, trial_id: str, config: Any) -> None:
        finish(searcher, trial_id, [0.1 * int(trial_id[1:])] * MAX_EPOCHS)

    through, restarted = (
        propose(make_searcher(StudyFile(tmp_path / name, "s", "tpe", 3, 2), space=space), 10, name == "restarted", play)
        for name in ("through", "restarted")
    )
    assert through == restarted
    if space is SPACE:
        assert len({config["x"] for config in through}) == 10
    else:
        assert all(set(config) == list_expected(config) for config in through)


@pytest.mark.parametrize("ended", [MAX_EPOCHS, 1], ids=["complete", "stopped"])
def test_tpe_goes_on_with_two_objectives(tmp_path: Path, ended: int) -> None:
    """Past the random start, also where all but a few trials were stopped; with running ones beside."""

    def play(searcher: StudySearcher, trial_id: str, config: Any) -> None:
        n_epochs = MAX_EPOCHS if int(trial_id[1:]) % 4 == 0 else ended
        finish(searcher, trial_id, [config["x"]] * n_epochs, size=config["n"])

    proposals = []
    for name in ("through", "restarted"):
        searcher = make_searcher(StudyFile(tmp_path / name, "s", "tpe", 3, 2, ("max", "min")))
        searcher.suggest("kept running")
        proposals.append(propose(searcher, 8, name == "restarted", play))
    assert proposals[0] == proposals[1]


def list_expected(config: dict[str, Any]) -> set[str]:
    """Says by hand what the conditions of ``CONDITIONAL_SPACE`` mean."""
    return {"kind", "on"} | ({"x"} if config["kind"] == "a" else set()) | ({"n"} if config["on"] else set())


def test_a_trial_has_only_what_applies(study_file: StudyFile) -> None:
    searcher = make_searcher(study_file, space=CONDITIONAL_SPACE)
    for number in range(24):
        config = searcher.suggest(f"t{number}")
        assert isinstance(config, dict) and set(config) == list_expected(config)
        assert last_trial(study_file).params == config
        finish(searcher, f"t{number}", [0.1 * len(config)] * (1 + number % MAX_EPOCHS))
    assert len({frozenset(trial.params) for trial in study_file.open().trials}) == 4


def test_starting_points_leave_out_what_does_not_apply(study_file: StudyFile) -> None:
    points = make_points(bare={"kind": "b", "on": False}, part={"kind": "a", "on": True, "x": 1}, open={"on": True})
    searcher = make_searcher(study_file, space=CONDITIONAL_SPACE, starting_points=points)
    bare, part, opened = (searcher.suggest(f"t{number}") for number in range(3))
    assert bare == points[0].values
    assert isinstance(part, dict) and part == {**points[1].values, "n": part["n"]} and isinstance(part["x"], float)
    assert isinstance(opened, dict) and set(opened) == list_expected(opened) and opened["on"] is True
    assert list_names(study_file) == ["bare", "part", "open"]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_real_search(study_file: StudyFile, tmp_path: Path) -> None:
    class Curve(tune.Trainable):  # inside the test, so that it travels to the workers by value
        def setup(self, config: dict[str, Any]) -> None:
            self.x = config["x"]

        def step(self) -> dict[str, Any]:
            if self.x == 0.25:
                raise RuntimeError("no such x")
            if self.x == 0.75:
                return {"val_dice": math.nan}
            return {"val_dice": self.x * (1.0 - 0.1 * (self.iteration == 3))}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {"x": self.x}

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            assert checkpoint is not None
            self.x = checkpoint["x"]

    points = make_points(good={"x": 1.0}, raises={"x": 0.25}, nan={"x": 0.75}, bad={"x": 0.0})
    searcher = make_searcher(study_file, num_trials=7, max_epochs=4, starting_points=points)
    grid = tune.Tuner(
        Curve,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(SchedulerConfig("asha", 1, 2), 4),
            num_samples=-1,
            max_concurrent_trials=1,  # else "bad" may report before "good"
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="run", storage_path=str(tmp_path / "ray"), verbose=0),
    ).fit()

    trials = {trial.user_attrs["ray_trial_id"]: trial for trial in study_file.open().trials}
    assert len(trials) == len(grid) == 7
    assert list_names(study_file)[:5] == ["good", "raises", "nan", "bad", None]
    for outcome in (grid[i] for i in range(len(grid))):
        # A trial that raised at once has no metrics; its folder is named after its id.
        trial = trials.pop(Path(outcome.path).name.split("_")[1])
        if trial.params["x"] in (0.25, 0.75):
            assert trial.state == TrialState.FAIL
            continue
        assert outcome.metrics is not None and outcome.config is not None
        n_epochs = outcome.metrics["training_iteration"]
        assert trial.state == (TrialState.COMPLETE if n_epochs == 4 else TrialState.PRUNED)
        assert sorted(trial.intermediate_values) == list(range(1, n_epochs + 1))
        assert trial.user_attrs["best_value"] == trial.params["x"] == outcome.config["x"]
    by_name = dict(zip(list_names(study_file), study_file.open().trials, strict=True))
    assert by_name["good"].state == TrialState.COMPLETE and by_name["good"].value == 1.0
    assert by_name["bad"].state == TrialState.PRUNED
    assert by_name["raises"].user_attrs["reason"] == "the trial raised an error"
    assert by_name["nan"].user_attrs["reason"] == "val_dice is nan at epoch 4"
    assert not study_file.open().get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_failed_trials_are_tried_again_in_their_place(study_file: StudyFile) -> None:
    """Each once, as a new trial of the same values, which does not count against the number of trials."""
    searcher = make_searcher(study_file, num_trials=3, starting_points=make_points(first={"x": 0.5}))
    configs = [searcher.suggest(trial_id) for trial_id in ("a", "b", "c")]
    finish(searcher, "a", [math.nan])
    finish(searcher, "b", [0.5] * MAX_EPOCHS)
    finish(searcher, "c", [0.4, 0.5], error=True)
    assert searcher.suggest("d") == "FINISHED"
    searcher.retry_failed()
    searcher = restart(searcher)
    assert [searcher.suggest(trial_id) for trial_id in ("d", "e", "f")] == [configs[0], configs[2], "FINISHED"]
    searcher.retry_failed()
    assert searcher.suggest("f") == "FINISHED"
    finish(searcher, "d", [math.nan])
    searcher.retry_failed()
    assert searcher.suggest("f") == configs[0]
    assert [trial.user_attrs.get("retry_of") for trial in study_file.open().trials] == [None, None, None, "a", "c", "d"]
    assert list_names(study_file)[3:] == ["first", None, "first"]
