"""What a search was, written and read back; what is damaged is reported."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.command_line.options import SearchOptions
from search.errors import ConfigError
from search.run_folder.layout import RECORD_FILE
from search.run_folder.search_record import SearchRecord
from search.space.config import find_space, load_config
from search.study.study_file import make_study_file

MakeRecord = Callable[..., SearchRecord]


def test_a_written_record_is_read_back(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record()
    record.write(tmp_path)
    read = SearchRecord.read(tmp_path)
    assert read.context == record.context
    assert json.dumps(dataclasses.asdict(read)) == json.dumps(dataclasses.asdict(record))
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_the_study_is_found_again_with_its_sampler(make_record: MakeRecord, tmp_path: Path) -> None:
    study_file = make_study_file(tmp_path, make_record())
    assert (study_file.name, study_file.sampler, study_file.seed) == ("first", "tpe", 7)
    assert study_file.startup_trials == load_config(find_space("lora.yaml")).sampler.startup_trials
    assert study_file.journal.parent == tmp_path
    config = {**make_record().config, "sampler": {"kind": "random"}}
    study_file = make_study_file(tmp_path, make_record(config=config))
    assert (study_file.sampler, study_file.startup_trials) == ("random", 0)
    study_file.open()


def test_a_damaged_or_missing_record_is_reported(tmp_path: Path, damaged: str) -> None:
    with pytest.raises(ConfigError, match="holds no search.json"):
        SearchRecord.read(tmp_path)
    for content in (damaged, '{"search_id": "a"}', "{}", "{"):
        (tmp_path / RECORD_FILE).write_text(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            SearchRecord.read(tmp_path)


@pytest.mark.parametrize("part", ["", "config", "context", "split", "environment", "context.protocol"])
def test_a_record_of_wrong_content_is_reported_or_can_be_used(
    make_record: MakeRecord, tmp_path: Path, part: str, mutate: Callable[[Any, str], Iterator[Any]]
) -> None:
    make_record().write(tmp_path)
    path, n_refused = tmp_path / RECORD_FILE, 0
    for changed in mutate(json.loads(path.read_text()), part):
        path.write_text(json.dumps(changed))
        try:
            make_study_file(tmp_path, SearchRecord.read(tmp_path))
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
def test_wrong_content_is_reported_by_the_records_name(
    make_record: MakeRecord, tmp_path: Path, part: str, key: str, value: object
) -> None:
    make_record().write(tmp_path)
    content = json.loads((tmp_path / RECORD_FILE).read_text())
    changed = content
    for name in filter(None, part.split(".")):
        changed = changed[name]
    changed[key] = value
    (tmp_path / RECORD_FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"search\.json: cannot be read: .*bring it back from a copy"):
        SearchRecord.read(tmp_path)


def test_options_that_an_older_version_lacked_have_their_defaults(make_record: MakeRecord, tmp_path: Path) -> None:
    make_record(arguments={"space": "own.yaml", "seed": 4, "pathology_weights": ["a=b"], "gone": 1}).write(tmp_path)
    options = SearchRecord.read(tmp_path).options
    assert options == SearchOptions(space="own.yaml", seed=4, pathology_weights=("a=b",))
