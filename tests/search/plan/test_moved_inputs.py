"""Data, weights and storage may lie elsewhere than when a search began; their content may not differ."""

from __future__ import annotations

import argparse
import dataclasses
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from search.cluster.resources import TrialResources
from search.command_line.options import SearchOptions, add_run_options, make_parser, parse_options
from search.errors import ConfigError
from search.plan.moved_inputs import find_inputs, hash_files
from search.plan.planner import make_plan
from search.plan.resume import ResumedSearch, read_resumed
from search.run_folder.search_record import SearchRecord
from search.stages.session import claim_folder, open_session, reopen_session
from search.tracking.tracker import Tracker
from trainables.errors import CheckpointError
from trainables.evaluation.candidates import load_candidate, score_candidate
from trainables.model.weights import NANO_WEIGHTS

RESOURCES, CONSOLE = TrialResources(cpus=1, gpus=0.0, concurrent=1), Console(file=io.StringIO())
MINE = "mine.safetensors"


@pytest.fixture
def begun(options: SearchOptions, tracker: Tracker, tmp_path: Path) -> Path:
    """The folder of a search that has begun, with data and weights of its own."""
    (tmp_path / "weights").mkdir()
    shutil.copy(NANO_WEIGHTS, tmp_path / "weights" / MINE)
    moved = dataclasses.replace(options, name="moved", checkpoint=str(tmp_path / "weights" / MINE))
    session = open_session(claim_folder(make_plan(moved)), RESOURCES, tracker, CONSOLE)
    assert set(session.record.input_hashes) == {"checkpoint"}
    return session.plan.folder


def find(folder: Path, *words: str) -> SearchRecord:
    """Finds a search's inputs as export, compare and open_test do."""
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    return find_inputs(folder, parser.parse_args(["--run", "moved", *words]))


def resume(folder: Path, *words: str) -> ResumedSearch:
    return read_resumed(parse_options(make_parser(), ["--resume", str(folder), *words]))


def test_all_may_be_moved_and_the_remedy_can_be_followed(begun: Path, tmp_path: Path, tracker: Tracker) -> None:
    for name in ("data", "weights", "runs"):
        (tmp_path / name).rename(tmp_path / f"{name} #1?")
    folder, data, weights = tmp_path / "runs #1?" / "moved", tmp_path / "data #1?", tmp_path / "weights #1?" / MINE
    with pytest.raises(ConfigError, match=r"there is no such folder -> .*: --data DIR") as caught:
        resume(folder)
    assert "check the path given to --checkpoint" in str(caught.value)
    with pytest.raises(CheckpointError, match="check the path given to --checkpoint"):
        load_candidate(find(folder).context, None)

    words = ("--data", str(data), "--checkpoint", str(weights))
    found = find(folder, *words)
    assert (found.data_root, found.context.checkpoint) == (str(data), str(weights))
    assert Path(found.context.store_folder).parent == tmp_path / "runs #1?" / ".cache"
    assert score_candidate(found.context, None, found.context.val).dice > 0

    reopen_session(resume(folder, *words), RESOURCES, tracker, CONSOLE)
    again = resume(folder)  # what was given once is recorded
    assert SearchRecord.read(folder).context == again.record.context
    assert again.record.context.checkpoint == again.record.arguments["checkpoint"] == str(weights)
    assert again.record.data_root == again.record.arguments["data"] == str(data)
    assert find(folder) == again.record


def test_decoded_regions_that_are_gone_are_decoded_again(begun: Path) -> None:
    shutil.rmtree(begun.parent / ".cache")
    assert Path(find(begun).context.store_folder).is_dir()


@pytest.mark.parametrize(
    ("name", "is_older", "what"),
    [
        ("data", False, "has changed since the search began"),
        (MINE, False, "has changed since the search began"),
        ("other.safetensors", True, "was mine.safetensors and is other.safetensors"),
        (MINE, True, ""),
    ],
)
def test_what_was_moved_must_hold_what_it_held(
    begun: Path, tmp_path: Path, name: str, is_older: bool, what: str
) -> None:
    if is_older:
        dataclasses.replace(SearchRecord.read(begun), input_hashes={}).write(begun)
    moved = tmp_path / "moved" / name
    if name == "data":
        shutil.copytree(tmp_path / "data", moved)
        Image.new("RGB", (64, 64), "white").save(moved / "images" / "0.png")
        words = ["--data", str(moved)]
    else:
        moved.parent.mkdir()
        content = bytearray(NANO_WEIGHTS.read_bytes())
        content[-1] ^= 1
        moved.write_bytes(content)
        words = ["--checkpoint", str(moved)]
    for read in (find, resume):
        if what:
            with pytest.raises(ConfigError, match=what):
                read(begun, *words)
        else:
            read(begun, *words)


def test_a_search_gets_no_inputs_that_it_began_without(begun: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--clip-weights: is fixed"):
        resume(begun, "--clip-weights", str(tmp_path / "weights" / MINE))
    with pytest.raises(ConfigError, match="uni .*: the search began without it"):
        find(begun, "--pathology-weights", f"uni={tmp_path / 'weights' / MINE}")


def test_a_folder_of_weights_is_what_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    first = hash_files({"clip_weights": str(tmp_path), "prompt_texts": "no/file"})
    assert set(first) == {"clip_weights"}
    (tmp_path / "b.json").write_text("2")
    assert hash_files({"clip_weights": str(tmp_path)}) != first
