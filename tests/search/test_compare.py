"""The comparator command on a small search's folder: its real files, a real store, and MLflow."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from search.compare import main, make_parser
from search.errors import ConfigError
from search.mlflow_pages.notes import RUN_KIND_TAG
from search.run_folder.score_table import write_scores
from search.run_folder.search_record import SearchRecord
from search.stages.comparator import compare_run
from search.tracking.tracker import Tracker
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES
from trainables.errors import CheckpointError
from trainables.evaluation.candidates import score_candidate
from trainables.model.build import MODELS, build_architecture
from trainables.protocol.scores import Scores
from trainables.protocol.spec import PROTOCOLS

pytest.importorskip("segment_anything", reason="needs the package segment-anything")

VAL = ("region-01.png", "region-02.png")
Screen = pytest.CaptureFixture[str]
Make = Callable[..., SearchRecord]


@pytest.fixture(scope="module")
def begun(make_record: Make, small_store: RegionStore) -> tuple[SearchRecord, Scores]:
    """The record of a search, and its scores of zero-shot."""
    names = small_store.names
    trials = {"store_folder": str(small_store.folder), "train": names[:1], "val": VAL, "max_epochs": 3}
    record = make_record(
        {**trials, "seed": 0, "fixed": {}},
        search_id="s",
        split={"train": [names[0]], "val": list(VAL), "test": []},
        data_fingerprint=small_store.fingerprint,
        demo="demo data",
        config={"sampler": {"kind": "tpe"}},
        caveats=["a leak was allowed"],
    )
    return record, score_candidate(record.context, None, record.context.val)


@pytest.fixture
def run_folder(begun: tuple[SearchRecord, Scores], tmp_path: Path, small_root: Path, tracker: Tracker) -> Path:
    """What a search leaves behind once zero-shot is scored: record, scores, store, parent run."""
    root = shutil.copytree(small_root, tmp_path / "data")
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": DEMO_CLASSES}))  # no split names a lost image
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    record = dataclasses.replace(begun[0], parent_run_id=tracker.start_run("s", "search"), data_root=str(root))
    record.write(folder)
    write_scores(folder / "scores_val_zeroshot.csv", {"zeroshot": begun[1]})
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_prints_writes_and_logs_once(
    run_folder: Path, tracker: Tracker, tiny_sam1_file: Path, capsys: Screen
) -> None:
    arguments = ["--storage", str(run_folder.parent), "--run", "s", "--medsam", str(tiny_sam1_file)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for part in ("zero-shot SAM2 (nano)", "medsam (", "filled prompt box", "ceiling", "demo data", "a leak was"):
        assert part in out
    assert "trained to give one mask" in out and "trained with boxes alone" in out
    assert "nothing was chosen" in out and "MLflow:" not in out

    rows, zeroshot = read_rows(run_folder / "scores_val_medsam.csv"), read_rows(run_folder / "scores_val_zeroshot.csv")
    shared = ("file", "class", "patient", "protocol", "floor", "ceiling")
    assert [[row[key] for key in shared] for row in rows] == [[row[key] for key in shared] for row in zeroshot]
    assert {row["file"] for row in rows} <= set(VAL)
    assert "one mask" in rows[0]["caveats"] and "a leak" in rows[0]["caveats"]

    assert main(arguments) == 0
    record = SearchRecord.read(run_folder)
    (run,) = tracker.find_runs({RUN_KIND_TAG: "comparator"})
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == record.parent_run_id
    assert run.data.tags["comparator"] == "medsam" and run.data.tags["protocol_id"] == PROTOCOLS["recorded"].id
    history = tracker.client.get_metric_history(run.info.run_id, "val_dice")
    dice = np.mean([float(row["medsam"]) for row in rows])
    assert [(one.step, one.value) for one in history] == [(step, pytest.approx(dice, abs=1e-6)) for step in (0, 3)]


def test_another_store_gets_no_orphan_and_the_files_stay(
    run_folder: Path, tracker: Tracker, tiny_sam1_file: Path, capsys: Screen
) -> None:
    record = SearchRecord.read(run_folder)
    dataclasses.replace(record, parent_run_id="0" * 32).write(run_folder)
    assert main(["--storage", str(run_folder.parent), "--run", "s", "--sam", str(tiny_sam1_file), "--name", "vit"]) == 0
    assert "MLflow:" in capsys.readouterr().out
    assert (run_folder / "scores_val_vit.csv").is_file()
    assert not tracker.find_runs({RUN_KIND_TAG: "comparator"})


def test_a_sam2_file_by_mistake_is_named(run_folder: Path, tmp_path: Path, capsys: Screen) -> None:
    path = tmp_path / "sam2.pt"
    torch.save({"model": build_architecture(MODELS["nano"]).state_dict()}, path)
    assert main(["--storage", str(run_folder.parent), "--run", "s", "--medsam", str(path)]) == 2
    assert "is a SAM2 checkpoint (nano)" in capsys.readouterr().err
    with pytest.raises(CheckpointError):
        compare_run(run_folder, tmp_path / "none.pth", "sam", "sam")
    assert not list(run_folder.glob("scores_val_[ms]*.csv"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (PROTOCOLS["recorded"].id, PROTOCOLS["box"].id, "under protocol"),
        ("zeroshot", "winner", "holds no scores of zero-shot"),
        (VAL[0], "region-99.png", "search again"),
        (VAL[0], "r" * 200_000, "field larger than field limit"),
    ],
)
def test_scores_that_are_no_pairs_of_this_search_are_refused(
    run_folder: Path, tiny_sam1_file: Path, old: str, new: str, words: str
) -> None:
    path = run_folder / "scores_val_zeroshot.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError) as raised:
        compare_run(run_folder, tiny_sam1_file, "sam", "sam")
    assert words in str(raised.value)


def test_data_that_has_lost_an_image_is_refused(run_folder: Path, tmp_path: Path, tiny_sam1_file: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "data" / part / VAL[0]).unlink()
    with pytest.raises(ConfigError, match="lacks region-01.png"):
        compare_run(run_folder, tiny_sam1_file, "sam", "sam")


@pytest.mark.parametrize("name", ["", "zeroshot", "winner", "caveats", "a b", "../x", "-x", "x" * 41, "o'k"])
def test_names_that_would_hide_or_break_files_are_refused(name: str, capsys: Screen) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--run", "s", "--sam", "f", f"--name={name}"])
    assert "--name" in capsys.readouterr().err


@pytest.mark.parametrize("weights", [[], ["--sam", "a", "--medsam", "b"]])
def test_one_checkpoint_is_asked_for_and_help_says_why_sam_med2d_s_is_not(weights: list[str], capsys: Screen) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--run", "s", *weights])
    assert "--medsam" in capsys.readouterr().err
    text = " ".join(make_parser().format_help().split())
    assert "SAM-Med2D" in text and "cannot be scored" in text
