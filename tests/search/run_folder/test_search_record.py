"""What a search was, written and read back, and found again by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.errors import ConfigError
from search.run_folder.layout import RECORD_FILE, find_run
from search.run_folder.search_record import SearchRecord
from search.space.config import find_space, load_config
from search.study.study_file import make_study_file
from trainables.context import TrialContext
from trainables.protocol.spec import PROTOCOLS

CONTEXT = TrialContext(
    model="nano",
    checkpoint=None,
    store_folder="/store",
    train=("a.png", "b.png"),
    val=("c.png",),
    protocol=PROTOCOLS["recorded"],
    max_epochs=8,
    seed=7,
    fixed={"optim.grad_clip": 1.0, "augment.kind": "none", "adapter.train_heads": True},
    n_workers=2,
)


def make_record(**changes: Any) -> SearchRecord:
    record = SearchRecord(
        search_id="first",
        experiment="lora",
        parent_run_id="run",
        data_root="/data",
        split={"train": ["a.png", "b.png"], "val": ["c.png"], "test": ["d.png"]},
        split_description="Drawn here.",
        data_fingerprint="0123456789ab",
        demo="",
        config=load_config(find_space("lora.yaml")).to_dict(),
        context=CONTEXT,
        environment={"git_commit": "unknown", "packages": {"torch": "2.9"}},
    )
    return dataclasses.replace(record, **changes)


def write_record(folder: Path, **changes: Any) -> SearchRecord:
    folder.mkdir(parents=True)
    record = make_record(**changes)
    record.write(folder)
    return record


def test_a_written_record_is_read_back(tmp_path: Path) -> None:
    record = write_record(tmp_path / "first")
    read = SearchRecord.read(tmp_path / "first")
    assert read.context == CONTEXT
    assert json.dumps(dataclasses.asdict(read)) == json.dumps(dataclasses.asdict(record))
    assert [path.name for path in (tmp_path / "first").iterdir()] == [RECORD_FILE]


def test_the_study_is_found_again_with_its_sampler(tmp_path: Path) -> None:
    study_file = make_study_file(tmp_path, make_record())
    assert (study_file.name, study_file.sampler, study_file.seed) == ("first", "tpe", 7)
    assert study_file.startup_trials == load_config(find_space("lora.yaml")).sampler.startup_trials
    assert study_file.journal.parent == tmp_path


def test_a_random_sampler_has_no_startup(tmp_path: Path) -> None:
    config = {**make_record().config, "sampler": {"kind": "random"}}
    study_file = make_study_file(tmp_path, make_record(config=config))
    assert (study_file.sampler, study_file.startup_trials) == ("random", 0)
    study_file.open()


def test_a_folder_without_a_record_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no search.json"):
        SearchRecord.read(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "\0\0", "{", "[]", "null", "{}", '{"search_id": "a"}', '{"surplus": 1}', "[" * 100_000]
)
def test_a_damaged_record_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        SearchRecord.read(tmp_path)


@pytest.mark.parametrize("part", ["", "config", "context", "split", "environment", "context.protocol"])
def test_a_record_of_wrong_content_is_reported_or_can_be_used(
    tmp_path: Path, part: str, mutate: Callable[[Any, str], Iterator[Any]]
) -> None:
    whole = dataclasses.asdict(write_record(tmp_path / "first"))
    path, n_refused = tmp_path / "first" / RECORD_FILE, 0
    for changed in mutate(json.loads(json.dumps(whole)), part):
        path.write_text(json.dumps(changed))
        try:
            record = SearchRecord.read(tmp_path / "first")
            make_study_file(tmp_path / "first", record)
        except ConfigError as error:
            assert error.findings[0].where == str(path)
            n_refused += 1
    assert n_refused


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "context", {}),
        ("", "config", []),
        ("", "environment", None),
        ("environment", "packages", None),
        ("", "parent_run_id", 5),
        ("", "split", {"train": "x"}),
        ("", "arguments", {"seed": 4}),
        ("", "arguments", {"space": None}),
        ("", "arguments", {"space": "own.yaml", "data": 5}),
        ("config", "num_trials", None),
        ("config", "num_trials", "x"),
        ("config", "sampler", {}),
        ("config", "objective", "x"),
        ("config", "objective", {}),
        ("context", "max_epochs", None),
        ("context", "train", "x"),
        ("context", "folds", 5),
        ("context.protocol", "prompt", None),
    ],
)
def test_wrong_content_is_reported_by_the_record_name(tmp_path: Path, part: str, key: str, value: object) -> None:
    content = json.loads(json.dumps(dataclasses.asdict(write_record(tmp_path / "first"))))
    changed = content
    for name in filter(None, part.split(".")):
        changed = changed[name]
    changed[key] = value
    (tmp_path / "first" / RECORD_FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"search\.json: cannot be read: .*bring it back from a copy"):
        SearchRecord.read(tmp_path / "first")


def test_a_search_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "first"
    assert find_run(tmp_path / "runs", "first") == folder
    assert find_run(tmp_path / "runs", str(folder)) == folder
    assert find_run(tmp_path / "elsewhere", "runs/first") == folder


def test_an_unknown_search_is_reported_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--run nine: no such search -> .* holds no searches"):
        find_run(tmp_path, "nine")
    for name in ("second", "first"):
        write_record(tmp_path / name)
    with pytest.raises(ConfigError, match="known are: first, second"):
        find_run(tmp_path, "nine")
