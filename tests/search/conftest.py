"""Fixtures of several test files: recorded scores, an MLflow store to write to, a search that has begun."""

import copy
import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from search.cluster.resources import TrialResources
from search.command_line.options import SearchOptions
from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.run_folder.chosen import Chosen
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.run_folder.trial_folder import PARAMS_FILE, RESULT_FILE, locate_trial
from search.space.config import SearchConfig, find_space, load_config
from search.space.parameters import Choice, FloatRange, IntRange, Parameter
from search.stages.session import Session, claim_folder, open_session
from search.tracking import tracker as tracker_module
from search.tracking.tracker import Tracker
from trainables.context import RECIPE_FILE, TrialContext
from trainables.demo.tissue import DEMO_CLASSES
from trainables.files.json_reader import build_record
from trainables.files.manifest import seal_checkpoint
from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS, Protocol


@pytest.fixture(autouse=True)
def late_looks_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose answer was lost is looked for as often as ever, at once."""
    monkeypatch.setattr(tracker_module, "LATE_LOOKS_S", (0.0,) * len(tracker_module.LATE_LOOKS_S))


@pytest.fixture(scope="session")
def recorded_scores(shared_data: Path) -> Path:
    """Recorded Dice of zero-shot SAM2 under several protocols: 180 (image, class) pairs of 45 patients."""
    return shared_data / "recorded" / "zeroshot_per_image.csv"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a store as MLflow itself would place it there."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tracker(store: Path) -> Tracker:
    return Tracker.connect("lora")


@pytest.fixture
def three_regions(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((64, 64, 3), 100 + number, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(np.eye(64, dtype=np.uint8)).save(root / "masks" / f"{number}.png")
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": DEMO_CLASSES}))
    return root


@pytest.fixture
def options(three_regions: Path, tmp_path: Path) -> SearchOptions:
    """What a search over three regions is asked for."""
    storage = str(tmp_path / "runs")
    return SearchOptions(space="lora", data=str(three_regions), storage=storage, name="first", seed=4)


@pytest.fixture
def plan(options: SearchOptions) -> SearchPlan:
    """That search, planned."""
    return make_plan(options)


@pytest.fixture
def screen() -> io.StringIO:
    """What the session below has printed."""
    return io.StringIO()


@pytest.fixture
def session(plan: SearchPlan, tracker: Tracker, screen: io.StringIO) -> Session:
    """That search, begun."""
    return open_session(claim_folder(plan), TrialResources(1, 0.0, 1), tracker, Console(file=screen))


@pytest.fixture(scope="session")
def make_record() -> Callable[..., SearchRecord]:
    """Makes the record of a search over lora.yaml, with changes of its context and of its own fields."""

    def make(in_context: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> SearchRecord:
        trials = {
            **{"model": "nano", "checkpoint": None, "store_folder": "/store", "train": ("a.png", "b.png")},
            **{"val": ("c.png",), "protocol": PROTOCOLS["recorded"], "max_epochs": 8, "seed": 7, "n_workers": 0},
            "fixed": {"optim.grad_clip": 1.0, "augment.kind": "none", "adapter.train_heads": True},
        }
        context = TrialContext(**{**trials, **in_context})
        record = SearchRecord(
            search_id="first",
            experiment="lora",
            parent_run_id="run",
            data_root="/data",
            split={"train": list(context.train), "val": list(context.val), "test": ["d.png"]},
            split_description="Drawn here.",
            data_fingerprint="0123456789ab",
            demo="",
            config=load_config(find_space("lora.yaml")).to_dict(),
            context=context,
            environment={
                "git_commit": "unknown",
                "command": ["run.py"],
                "python": "3.11",
                "platform": "",
                "packages": {"torch": "2.9"},
            },
        )
        return dataclasses.replace(record, **changes)

    return make


@pytest.fixture(scope="session")
def make_chosen() -> Callable[..., Chosen]:
    """Makes the model that such a search chose, with changes."""
    chosen = Chosen(
        **{"trial_id": "abc", "seed": 2, "checkpoint": "confirmation/trial-x/checkpoint_000004", "epoch": 5},
        **{"scale": 0.75, "val_dice": 0.71234, "val_dice_at_1": 0.7, "seeds_mean": 0.7012, "seeds_std": 0.0123},
        **{"n_seeds": 4, "n_finalists": 3, "protocol_id": "ab12cd34"},
        params={"adapter.rank": 8, "optim.lr": 0.001},
    )
    return functools.partial(dataclasses.replace, chosen)


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., Scores]:
    """Makes scores of two classes in each region of a patient each; the gains, in hundredths of Dice, go round."""

    def make(
        *gains: int, n_regions: int = 12, protocol: Protocol = PROTOCOLS["recorded"], floor: float = 0.2
    ) -> Scores:
        pairs = [
            PairScore(f"r{i}.png", name, f"p{i}", Overlap(30 + i + gains[i % len(gains)], 100, 100), 0.9, floor)
            for i in range(n_regions)
            for name in ("tumor", "stroma, fine")
        ]
        return Scores(protocol, tuple(pairs))

    return make


@pytest.fixture(scope="session")
def make_summary() -> Callable[..., Summary]:
    """Makes the outcome of a demo search that was confirmed with four seeds; other values by summary.json's keys."""
    content = {
        "search_id": "first",
        "demo": "demo data (synthetic tissue) and demo model (nano, 2.5 M parameters)",
        "trials": {"complete": 3, "stopped": 12, "failed": 1},
        "best_trial": "abc",
        "best_params": {"adapter.rank": 8, "optim.lr": 1e-3, "adapter.train_heads": True},
        "best_epoch": 5,
        "best_seed": 2,
        "best_scale": 0.75,
        "n_finalists": 3,
        "seeds": 4,
        "seeds_mean": 0.7012,
        "seeds_std": 0.0123,
        "search_val_dice": 0.7201,
        "val_dice": 0.71234,
        "zeroshot_val_dice": 0.60001,
        "val_floor": 0.5123,
        "val_ceiling": 0.9321,
        "test_dice": 0.6812,
        "zeroshot_test_dice": 0.6134,
        "verdict": "beaten",
        "protocol": "recorded",
        "protocol_id": "ab12cd34",
        "data_fingerprint": "0123456789ab",
        "seed": 0,
        "parent_run_id": "run",
        "wall_seconds": 130.0,
        "bar_recorded_comparable": False,
    }
    return lambda **changes: build_record({**content, **changes}, Summary)


@pytest.fixture(scope="session")
def summary(make_summary: Callable[..., Summary]) -> Summary:
    return make_summary()


@pytest.fixture(scope="session")
def write_trial() -> Callable[..., Path]:
    """Writes what a trial leaves; returns its folder.

    Arguments: the folder of all trials, Ray's id, the values of its epochs (``val_dice``, or whole rows), the epochs
    that a checkpoint is kept of, and its configuration.
    """

    def write(folder: Path, trial_id: str, rows: Sequence[Any], kept: Iterable[int] = (), config: Any = None) -> Path:
        trial, text = locate_trial(folder, trial_id), json.dumps(config or {"seed": 1})
        trial.mkdir(parents=True)
        reports = [row if isinstance(row, dict) else {"val_dice": row} for row in rows]
        lines = [json.dumps({"training_iteration": epoch, **row}) for epoch, row in enumerate(reports, start=1)]
        (trial / RESULT_FILE).write_text("".join(f"{line}\n" for line in lines))
        (trial / PARAMS_FILE).write_text(text)
        for epoch in kept:
            checkpoint = trial / f"checkpoint_{epoch - 1:06d}"
            checkpoint.mkdir()
            (checkpoint / RECIPE_FILE).write_text(text)
            seal_checkpoint(checkpoint)
        return trial

    return write


@pytest.fixture(params=["", "\0" * 40, "[]", "null", "5", '["x"]', '{"unknown": 1}', '{"a": {"b": 1}}', "[" * 100_000])
def damaged(request: pytest.FixtureRequest) -> str:
    """What a power cut, an editor or another program can leave in a file of JSON."""
    return str(request.param)


@pytest.fixture
def mutate() -> Callable[[Any, str], Iterator[Any]]:
    """Yields a mapping with each key of a part (``context.protocol``) left out, or holding something else."""

    def find(content: Any, part: str) -> Any:
        for key in filter(None, part.split(".")):
            content = content[key]
        return content

    def change(content: Any, part: str) -> Iterator[Any]:
        for key in find(content, part):
            changed = copy.deepcopy(content)
            del find(changed, part)[key]
            yield changed
            for value in (None, [], {}, 5, "x"):
                changed = copy.deepcopy(content)
                find(changed, part)[key] = value
                yield changed

    return change


@pytest.fixture(scope="session")
def every_kind() -> Mapping[str, Parameter]:
    """A parameter of every kind."""
    return {
        "choice": Choice((4, 8, 16)),
        "switch": Choice((True, False)),
        "plain": IntRange(1, 4),
        "stepped": IntRange(2, 8, step=2),
        "log": IntRange(1, 3, log=True),
        "grid": FloatRange(0.0, 0.3, step=0.1),
        "real": FloatRange(-1.0, 1.0),
        "log_real": FloatRange(1e-5, 1e-1, log=True),
    }


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "tiny.yaml").write_text(text)
        return tmp_path / "tiny.yaml"

    return write


@pytest.fixture
def load_space(write_space: Callable[[str], Path]) -> Callable[[str], SearchConfig]:
    return lambda text: load_config(write_space(text))


@pytest.fixture
def list_faults(load_space: Callable[[str], SearchConfig]) -> Callable[[str], list[tuple[str, str]]]:
    """Returns place, without the file's name, and words of everything that is wrong in the text of a space file."""

    def read(text: str) -> list[tuple[str, str]]:
        try:
            load_space(text)
        except ConfigError as error:
            faults = error.findings
            return [(fault.where.removeprefix("tiny.yaml:"), f"{fault.what} -> {fault.fix}") for fault in faults]
        return []

    return read
