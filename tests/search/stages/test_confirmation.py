"""Finalists gather their seeds' trainings, and what happened to each."""

import dataclasses
import io
import json
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from killer import Killed, Killer
from ray import tune
from ray.tune import TuneError

from search.cluster.resources import TrialResources
from search.errors import SearchError
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.trial_folder import (
    PARAMS_FILE,
    RESULT_FILE,
    ListedTrial,
    list_trial_folders,
    read_epochs,
    read_listed,
)
from search.stages import confirmation, trials
from search.stages.confirmation import list_seeds
from search.stages.session import Session
from search.stages.tune_run import TuneRun
from search.study.ranking import RankedTrial
from search.study.trial_attributes import FROM_TRIAL
from search.tuning.epoch_log import EpochLog
from search.tuning.trial_generator import ListSearcher
from trainables.adapters.scales import SCALES
from trainables.context import SEED_KEY
from trainables.evaluation.soup_folder import list_members
from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS


@pytest.mark.parametrize(("seed", "seeds"), [(0, [1, 2, 3]), (2**32 - 2, [2**32 - 1, 0, 1])])
def test_confirmations_never_use_the_searchs_own_seed(seed: int, seeds: list[int]) -> None:
    assert list_seeds(seed, 3) == seeds
    assert seed not in seeds


@pytest.mark.parametrize("reason", ["ValueError: no such adapter", None], ids=["failed", "not started"])
def test_the_error_of_a_refit_whose_worker_never_came_up_has_the_reason(
    session: Session, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    folder, log = session.plan.folder / "refit", EpochLog(session.plan.folder / "refit")

    def fail(session: Session, zeroshot: object, configs: list[dict[str, Any]], *_: object) -> list[ListedTrial]:
        if reason is not None:
            trial = SimpleNamespace(
                trial_id="r", config=configs[0], get_error=lambda: f"Traceback\n{reason}", should_recover=lambda: False
            )
            log.on_trial_error(0, [trial], trial)
        return read_listed(folder)

    monkeypatch.setattr(confirmation, "run_listed", fail)
    best = Finalist("abc", 0.7, {"adapter.rank": 8}, (SeedRun(1, "/c", 4, 0.7),))
    chosen = SimpleNamespace(params={"adapter.rank": 8}, seed=1, trial_id="abc")
    with pytest.raises(SearchError) as caught:
        confirmation._refit(session, chosen, best, None)  # type: ignore[arg-type]
    assert str(caught.value) == f"the refit on all regions failed: {reason or 'it was not started'}"


SCORES = {"a": [0.65, 0.64, 0.66], "b": [0.64, 0.66, 0.62], "c": [0.5, 0.51, 0.52], "f": [0.9, None, 0.9]}
RANKED = [RankedTrial(name, Path("/c"), 4, (dice[0] or 0) + 0.01, {"rank": name}) for name, dice in SCORES.items()]


@pytest.fixture
def trained(write_trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings of configurations with seeds, such as ``a1``, in their order; the screen follows them."""
    done = list[str]()

    def fit(run: TuneRun, trainable: Any, context: Any, searcher: ListSearcher, *_: Any) -> None:
        session, running = run.session, deque[Any]()
        epochs = session.plan.config.max_epochs
        while True:
            trial_id = f"t{len(done) + len(running)}"
            free = len(running) < session.resources.concurrent
            if free and isinstance(config := searcher.suggest(trial_id), dict):
                running.append(SimpleNamespace(trial_id=trial_id, config=config, should_recover=lambda: False))
            elif running:
                trial = running.popleft()
                name, number = trial.config[FROM_TRIAL], trial.config[SEED_KEY] - session.plan.options.seed
                dice = SCORES[name][number - 1]
                rows, kept = ([dice] * epochs, (1, epochs)) if dice else ([], ())
                write_trial(run.folder, trial.trial_id, rows, kept, trial.config)
                done.append(f"{name}{number}")
                searcher.on_trial_complete(trial.trial_id, error=not dice)
                run._screen.on_trial_complete(0, [], trial)
                run._screen.on_step_end(0, [])
            else:
                return

    monkeypatch.setattr(TuneRun, "fit", fit)
    return done


BAR = Scores(PROTOCOLS["recorded"], (PairScore("a.png", "tumor", "p", Overlap(30, 100, 100), ceiling=0.9, floor=0.2),))


def race(session: Session, names: str, concurrent: int = 1, is_resumed: bool = False) -> dict[str, Finalist]:
    # An actor of a killed race may hold its share for a while.
    resources = TrialResources(0.1, 0.0, concurrent)  # type: ignore[arg-type]
    session = dataclasses.replace(session, resources=resources, is_resumed=is_resumed)
    seeds = list_seeds(session.plan.options.seed, 3)
    ranked = [each for each in RANKED if each.trial_id in names]
    found = confirmation._race(session, ranked, seeds, BAR)
    return {each.trial_id: each for each in found}


def test_seeds_are_added_where_they_can_still_change_the_choice(
    session: Session, trained: list[str], screen: io.StringIO
) -> None:
    found = race(session, "abc")
    assert trained == ["a1", "b1", "c1", "a2", "b2", "a3", "b3"]
    assert [name for name, finalist in found.items() if finalist.out] == ["c"]
    assert [len(found[name].runs) for name in "abc"] == [3, 3, 1]
    words = "  trial c is out after 1 of 3 seeds: mean val Dice 0.500 against 0.650 of trial a"
    assert screen.getvalue().count(words) == 1
    assert "3/9 trials ended" in screen.getvalue() and "7/7 trials ended" in screen.getvalue()
    before = list(trained)
    assert race(session, "abc", is_resumed=True) == found and trained == before  # the same decisions, nothing again
    assert screen.getvalue().count(words) == 2


@pytest.mark.parametrize(
    ("names", "concurrent", "order"),
    [
        ("ac", 1, ["a1", "c1", "a2", "a3"]),
        ("abc", 2, ["a1", "b1", "c1", "a2", "b2", "a3", "b3"]),
        ("abc", 9, ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"]),
        ("a", 1, ["a1", "a2", "a3"]),
        ("cf", 1, ["c1", "f1", "f2", "c2", "c3"]),
    ],
    ids=["the last one gets the rest", "two slots", "nine slots", "one finalist", "all that are left fail"],
)
def test_a_free_slot_gets_the_next_training(
    session: Session, trained: list[str], names: str, concurrent: int, order: list[str]
) -> None:
    found = race(session, names, concurrent)
    assert trained == order
    assert any(finalist.can_win for finalist in found.values())


@pytest.mark.parametrize(
    ("confirm", "names", "words"),
    [
        (1, "a", "the best configuration with 3 new seeds each"),
        (2, "ac", "the best configuration and the starting point led with up to 3 new seeds each"),
        (3, "abc", "the best 3 configurations with up to 3 new seeds each"),
    ],
)
def test_the_screen_names_who_is_confirmed(
    session: Session, trained: list[str], screen: io.StringIO, confirm: int, names: str, words: str
) -> None:
    options = dataclasses.replace(session.plan.options, confirm=confirm, confirm_seeds=3)
    session = dataclasses.replace(session, plan=dataclasses.replace(session.plan, options=options))
    ranked = [*RANKED[:2], dataclasses.replace(RANKED[2], starting_point="led")]
    assert [each.trial_id for each in confirmation._confirm(session, ranked, BAR)] == list(names)
    assert f"confirming {words} (" in screen.getvalue() and trained


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("concurrent", [1, 2])
def test_in_tune_itself_a_killed_race_goes_on_to_the_same_end(
    session: Session, monkeypatch: pytest.MonkeyPatch, concurrent: int
) -> None:
    scores, n_epochs = SCORES, 2

    class Known(tune.Trainable):  # inside the function, so that it travels to the workers by value
        def setup(self, config: dict[str, Any], context: Any = None) -> None:
            self.config, self.n_done = config, 0

        def step(self) -> dict[str, Any]:
            self.n_done += 1  # of a checkpoint that is lost none would be right
            dice = scores[self.config["from_trial"]][self.config["seed"] - 5]
            return {"val_dice": dice - 0.01 * (n_epochs - self.n_done), "train_loss": 1.0}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            from trainables.files.manifest import seal_checkpoint

            for name in ("recipe.json", "n_done.json"):
                (Path(checkpoint_dir) / name).write_text(json.dumps(self.n_done))
            seal_checkpoint(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint_dir: Any) -> None:
            self.n_done = json.loads((Path(checkpoint_dir) / "n_done.json").read_text())

    monkeypatch.setattr(trials, "SAM2Trainable", Known)
    config = dataclasses.replace(session.plan.config, max_epochs=n_epochs)
    session = dataclasses.replace(session, plan=dataclasses.replace(session.plan, config=config))
    list_callbacks = TuneRun._list_callbacks
    with monkeypatch.context() as patch, pytest.raises((Killed, TuneError)):
        patch.setattr(TuneRun, "_list_callbacks", lambda run, pairs: [*list_callbacks(run, pairs), Killer(9)])
        race(session, "abc", concurrent)
    folders = list_trial_folders(session.plan.folder / "confirmation")
    before = {path: (path / RESULT_FILE).read_text() for path in folders if len(read_epochs(path)) == n_epochs}
    assert 0 < len(before) < len(folders)
    found = race(session, "abc", concurrent, is_resumed=True)
    assert {name: [run.val_dice for run in each.runs] for name, each in found.items()} == {
        name: pytest.approx(SCORES[name][: 1 if name == "c" else 3]) for name in "abc"
    }
    assert [name for name, each in found.items() if each.out] == ["c"]
    assert all(run.epoch == n_epochs for each in found.values() for run in each.runs)
    folders = list_trial_folders(session.plan.folder / "confirmation")
    begun = Counter(json.loads((path / PARAMS_FILE).read_text())["from_trial"] for path in folders)
    # Of two at once, c's second training can begin before what shows that c is out.
    assert begun["a"] == begun["b"] == 3 and 1 <= begun["c"] <= concurrent
    for path, text in before.items():
        assert (path / RESULT_FILE).read_text().startswith(text)


def test_contenders_are_the_best_training_and_the_soups(
    session: Session, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, make_scores: Callable[..., Scores]
) -> None:
    by_scale = {scale: 0.5 + scale / 10 for scale in SCALES}
    folder = session.plan.folder

    def make_run(name: str, seed: int, dice: float) -> SeedRun:
        return SeedRun(seed, str(folder / name / str(seed)), 3, dice, by_scale=by_scale)

    best = Finalist("a", 0.7, {"adapter.kind": "lora"}, (make_run("a", 1, 0.6), make_run("a", 2, 0.62)))
    other = Finalist("b", 0.7, {}, (make_run("b", 1, 0.64),), out="out after 1 of 2 seeds")
    single = Chosen.from_finalist(best, 1.0, 2, "ab12cd34", folder)
    asked: list[Any] = []

    def work(resources: object, what: str, function: Callable[..., Any], calls: Any) -> list[Any]:
        asked.extend(calls)
        return [{scale: make_scores(round(10 * scale)) for scale in each[3]} for each in calls]

    def grow(resources: object, what: str, function: Callable[..., Any], *arguments: Any) -> list[int]:
        assert [path.relative_to(folder).as_posix() for path in arguments[1]] == ["a/1", "b/1", "a/2"]
        assert arguments[4] == by_scale
        return [0, 1]

    monkeypatch.setattr(confirmation, "map_with_resources", work)
    monkeypatch.setattr(confirmation, "call_with_resources", grow)
    alone, seeds, greedy = confirmation.list_contenders(session, single, [best, other])
    assert (alone.kind, alone.checkpoint, alone.scale, alone.val_dice) == ("single", "a/1", 1.0, pytest.approx(0.6))
    assert seeds.members == ("trial a, seed 1, epoch 3", "trial a, seed 2, epoch 3")
    assert greedy.members == ("trial a, seed 1, epoch 3", "trial b, seed 1, epoch 3")
    assert [each[1] for each in asked] == [folder / each.checkpoint for each in (seeds, greedy)]
    assert list_members(folder / greedy.checkpoint) == [folder / "a/1", folder / "b/1"]
    assert seeds.by_scale[0.0] == 0.5 and tuple(seeds.by_scale) == SCALES
    chosen = single.replace_by(greedy)
    assert (chosen.locate(folder), chosen.scale, chosen.seed) == (folder / "soups" / "greedy", greedy.scale, 1)
    assert chosen.describe().startswith("greedy soup of 2 trainings (trial a, seed 1, epoch 3; trial b")
    assert single.replace_by(alone) == single
    assert "scoring soups of the 3 trainings" in screen.getvalue()


def test_where_there_can_be_no_soup_the_reason_is_said(session: Session, screen: io.StringIO) -> None:
    runs = tuple(SeedRun(seed, str(session.plan.folder / str(seed)), 3, 0.6, by_scale={1.0: 0.6}) for seed in (1, 2))
    best = Finalist("a", 0.7, {"adapter.kind": "bottleneck"}, runs)
    single = Chosen.from_finalist(best, 1.0, 1, "ab12cd34", session.plan.folder)
    (alone,) = confirmation.list_contenders(session, single, [best])
    assert alone.kind == "single" and "no soup of the trainings: what was trained cannot be" in screen.getvalue()


@pytest.mark.parametrize(("concurrent", "n_calls"), [(1, 2), (2, 4), (4, 8), (64, 10)])
def test_scales_are_divided_so_that_no_slot_is_idle(
    session: Session, monkeypatch: pytest.MonkeyPatch, make_scores: Callable[..., Scores], concurrent: int, n_calls: int
) -> None:
    asked: list[Any] = []

    def work(resources: object, what: str, function: Callable[..., Any], calls: Any) -> list[Any]:
        asked.extend(calls)
        return [{scale: make_scores(round(4 * scale)) for scale in each[3] if scale != 0.5} for each in calls]

    monkeypatch.setattr(confirmation, "map_with_resources", work)
    busy = dataclasses.replace(session, resources=TrialResources(1, 0.0, concurrent))
    candidates = [(Path("a"), ["one"]), (Path("b"), ["two"])]
    found = confirmation._score_candidates(busy, "scores", candidates, (0.25, 0.5, 0.75, 1.0, 1.25))
    assert found == [{scale: make_scores(round(4 * scale)) for scale in (0.25, 0.75, 1.0, 1.25)}] * 2
    assert [list(each) for each in found] == [[0.25, 0.75, 1.0, 1.25]] * 2
    assert len(asked) == n_calls and all(each[3] for each in asked)
    assert {(each[1], *each[2]) for each in asked} == {(Path("a"), "one"), (Path("b"), "two")}
    for folder, _ in candidates:
        scales = [scale for each in asked if each[1] == folder for scale in each[3]]
        assert sorted(scales) == [0.25, 0.5, 0.75, 1.0, 1.25]
