"""The command that opens a search's test set once more, on a small search's real files."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search.judging.openings import add_opening, read_openings
from search.open_test import main
from search.run_folder.layout import hold_search
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID
from search.tracking.tracker import Tracker
from trainables.data.store import RegionStore
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe
from trainables.training.fine_tune import FineTune

Screen = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def begun(
    make_record: Callable[..., SearchRecord], small_store: RegionStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchRecord, Path]:
    """The record of a search, and a checkpoint of its trial."""
    names = small_store.names
    trials = {"store_folder": str(small_store.folder), "train": names[:1], "val": names[1:2], "max_epochs": 1}
    recipe = {"adapter.rank": 4, "augment.kind": "none"}
    record = make_record(
        {**trials, "protocol": PROTOCOLS["box"], "seed": 0, "fixed": {}},
        search_id="s",
        split={"train": [names[0]], "val": [names[1]], "test": list(names[2:4])},
        data_fingerprint=small_store.fingerprint,
        demo="demo data",
    )
    context, checkpoint = record.context, tmp_path_factory.mktemp("checkpoint")
    base, fold = load_model("nano", None).state_dict(), context.list_folds()[0]
    FineTune(context, fold, base, Recipe.from_flat(recipe), torch.device("cpu")).save(checkpoint)
    return record, checkpoint


@pytest.fixture
def run_folder(
    begun: tuple[SearchRecord, Path], make_summary: Callable[..., Summary], tmp_path: Path, tracker: Tracker
) -> Path:
    """A search with one trial of one epoch, whose test set has been opened once."""
    record = dataclasses.replace(begun[0], parent_run_id=tracker.start_run("s", "search"), tracking_uri=tracker.uri)
    folder = tmp_path / "runs" / "s"
    checkpoint = shutil.copytree(begun[1], folder / "trials" / "trial-abc" / "checkpoint_000000")
    record.write(folder)
    (checkpoint.parent / "result.json").write_text(json.dumps({"training_iteration": 1, "val_dice": 0.5}) + "\n")
    trial = make_study_file(folder, record).open().ask()
    trial.set_user_attr(RAY_TRIAL_ID, "abc")
    add_opening(folder, "winner", record.context.protocol.id)
    make_summary().write(folder)
    return folder


def change_context(folder: Path, **changes: str) -> None:
    record = SearchRecord.read(folder)
    dataclasses.replace(record, context=dataclasses.replace(record.context, **changes)).write(folder)


def open_test(folder: Path, *options: str) -> int:
    return main(["--storage", str(folder.parent), "--run", "s", *options])


def test_a_second_opening_is_marked(
    run_folder: Path, small_store: RegionStore, tracker: Tracker, capsys: Screen
) -> None:
    (report := run_folder / "report.html").write_text("an old report")
    assert open_test(run_folder, "--trial", "abc", "--scale", "0") == 0
    assert "opened 2 times" in report.read_text()
    out, err = capsys.readouterr()
    assert "Using an existing study" not in err
    assert out.startswith("test, opening 2: trial abc, epoch 1, scale 0\n") and "opened 2 times" in out
    assert [opening.candidate for opening in read_openings(run_folder)][1] == "trial abc, epoch 1, scale 0"
    rows = (run_folder / "scores_test_2.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == set(small_store.names[2:4])
    for row in rows[1:]:  # scale 0 is zero-shot itself
        winner, zeroshot = (row.split(",")[rows[0].split(",").index(name)] for name in ("winner", "zeroshot"))
        assert winner == zeroshot
    run = tracker.client.get_run(SearchRecord.read(run_folder).parent_run_id)
    assert run.data.tags["test_openings"] == "2"


def test_a_trial_is_opened_at_the_scale_of_its_best_epoch(run_folder: Path, capsys: Screen) -> None:
    row = {"training_iteration": 1, "val_dice": 0.5, "update_scale": 0.0}
    (run_folder / "trials" / "trial-abc" / "result.json").write_text(json.dumps(row) + "\n")
    assert open_test(run_folder, "--trial", "abc") == 0
    assert capsys.readouterr().out.startswith("test, opening 2: trial abc, epoch 1, scale 0\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trial", "xyz"], "those that did: abc"),
        (["--trial", "abc", "--scale", "-1"], "0 <= scale"),
        (["--trial", "abc", "--run", "other"], "known are: s"),
    ],
)
def test_a_wrong_call_opens_nothing(run_folder: Path, capsys: Screen, options: list[str], words: str) -> None:
    assert open_test(run_folder, *options) == 2
    assert words in capsys.readouterr().err
    assert len(read_openings(run_folder)) == 1 and not list(run_folder.glob("scores_test*"))


def test_a_search_that_runs_or_has_not_ended_is_not_opened(run_folder: Path, capsys: Screen) -> None:
    with hold_search(run_folder):
        assert open_test(run_folder, "--trial", "abc", "--scale", "0") == 2
    assert "the search is being run by process" in capsys.readouterr().err
    (run_folder / "summary.json").unlink()
    assert open_test(run_folder, "--trial", "abc", "--scale", "0") == 2
    assert "has not ended" in capsys.readouterr().err
    assert len(read_openings(run_folder)) == 1 and not list(run_folder.glob("scores_test*"))


@pytest.mark.parametrize("scale", ["1", "0.5"])
@pytest.mark.parametrize("file", ["adapter/adapter_model.safetensors", "adapter/adapter_config.json", "recipe.json"])
def test_a_damaged_checkpoint_opens_nothing(run_folder: Path, capsys: Screen, file: str, scale: str) -> None:
    path = run_folder / "trials" / "trial-abc" / "checkpoint_000000" / file
    for content in (b"", bytes(4000)):
        path.write_bytes(content)
        assert open_test(run_folder, "--trial", "abc", "--scale", scale) == 2
        assert str(path) in capsys.readouterr().err
    path.unlink()
    assert open_test(run_folder, "--trial", "abc", "--scale", scale) == 2
    assert ("those that did: none" if file == "recipe.json" else str(path)) in capsys.readouterr().err
    assert len(read_openings(run_folder)) == 1 and not list(run_folder.glob("scores_test*"))


@pytest.mark.parametrize("scale", ["1", "0.5", "0"])
def test_weights_of_the_base_that_are_gone_open_nothing(run_folder: Path, capsys: Screen, scale: str) -> None:
    change_context(run_folder, checkpoint="/no/such/place")
    assert open_test(run_folder, "--trial", "abc", "--scale", scale) == 2
    assert "/no/such/place" in capsys.readouterr().err
    assert len(read_openings(run_folder)) == 1


def test_a_copy_of_a_checkpoint_stops_nothing(run_folder: Path) -> None:
    checkpoint = run_folder / "trials" / "trial-abc" / "checkpoint_000000"
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint_000000.bak"))
    assert open_test(run_folder, "--trial", "abc", "--scale", "0") == 0


def test_regions_that_are_gone_are_asked_for_and_decoded_again(
    run_folder: Path, small_root: Path, capsys: Screen
) -> None:
    change_context(run_folder, store_folder="/no/such/store")
    assert open_test(run_folder, "--trial", "abc") == 2
    assert "  /data\n    there is no such folder\n" in (said := capsys.readouterr().err) and "--data DIR" in said
    assert len(read_openings(run_folder)) == 1  # nothing was looked at
    assert open_test(run_folder, "--trial", "abc", "--data", str(small_root)) == 0
