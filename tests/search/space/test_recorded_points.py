"""Which recorded experiments lie inside a space, as what points, and why the others do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from search.errors import ConfigError
from search.space.config import SearchConfig, find_space, load_config
from search.space.parameters import contains
from search.space.recorded_experiments import RECORDED_EXPERIMENTS
from search.space.recorded_points import compute_warmup_share, describe_recorded, list_recorded
from search.space.starting_points import StartingPoint
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile
from trainables.recipe import Recipe

LoadSpace = Callable[[str], SearchConfig]
DECODER = """\
fixed: {adapter.kind: none, adapter.train_decoder: true}
space:
  optim.lr: {low: 1.0e-6, high: 1.0e-3, log: true}
  optim.warmup_fraction: {low: 0.0, high: 0.5}
  prompts.mix: {choice: [protocol, box, half]}
start_from:
"""


def test_ranges_hold_the_recorded_lora_and_say_why_no_other() -> None:
    today = load_config(find_space("lora"))
    assert "loss.focal is 20, outside 0.5 to 5" in str(dict(describe_recorded(today.space, today.fixed))["lora-r8"])
    config = load_config(Path(__file__).parents[3] / "benchmarks/curves/first_ranges.yaml")
    found = dict(describe_recorded(config.space, config.fixed))
    assert list(found) == [one.name for one in RECORDED_EXPERIMENTS]
    point = found.pop("lora-r8")
    assert isinstance(point, StartingPoint) and point.name == "recorded/lora-r8"
    assert point.values["optim.lr"] == 1e-4 and point.values["optim.warmup_fraction"] == 0.1  # 2 of 20 epochs
    assert point.note == "recorded over 20 epochs; optim.lr_end_fraction 0.1 in place of 0.01"
    assert all(contains(config.space[name], value) for name, value in point.values.items())
    for name, reason in found.items():
        assert isinstance(reason, str) and "\n" not in reason, name
    assert "adapter.kind is none, here lora" in str(found["v2"])
    assert "optim.lr is 5e-06, outside 5e-05 to 0.01" in str(found["lora-light"])
    assert "prompts.mix is half, none of protocol, box, mixed" in str(found["v1"])
    assert found["tta"] == "trained nothing"


def test_decoder_fine_tunes_start_a_search_of_decoders(load_space: LoadSpace) -> None:
    config = load_space(DECODER + "- recorded\n- {name: own, optim.lr: 1.0e-4}\n")
    names = [point.name for point in config.start_from]
    trained = ["recorded/v1", "recorded/v2", "recorded/v3", "recorded/lora-light", "recorded/box-focal", "own"]
    assert [name for name in names if name != "recorded/path-sam2"] == trained
    by_name = {point.name: point for point in config.start_from}
    assert by_name["recorded/v2"].values == {
        "optim.lr": 6e-5,
        "optim.warmup_fraction": 175 / 1500,  # 85 regions in batches of 6, 100 epochs
        "prompts.mix": "half",
    }
    assert "optim.grad_clip 1 in place of 0.1" in by_name["recorded/v2"].note
    assert "warmup" not in by_name["recorded/v2"].note
    assert {"zeroshot", "lora-r8", "tta", "prompts"} <= {name for name, _ in config.left_out}


@pytest.mark.parametrize("spelled", ["recorded", "[recorded]"])
def test_the_word_stands_alone_or_in_a_list(load_space: LoadSpace, spelled: str) -> None:
    config = load_space(DECODER.rstrip("\n") + f" {spelled}\n")
    assert config.start_from[0].name == "recorded/v1"


def test_a_dumped_search_has_the_points_in_full(load_space: LoadSpace) -> None:
    config = load_space(DECODER.rstrip("\n") + " recorded\n")
    assert load_space(yaml.safe_dump(config.to_dict(), sort_keys=False)) == config


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("recrded", "must be a list, or the word recorded"),
        ("[recrded]", "must be a mapping"),
        ("[recorded, recorded]", "another starting point is named"),
        ("[{name: recorded/v1, optim.lr: 1.0e-4}, recorded]", "another starting point is named 'recorded/v1'"),
    ],
)
def test_faults_are_reported(load_space: LoadSpace, spelled: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        load_space(DECODER.rstrip("\n") + f" {spelled}\n")


def test_parameters_that_do_not_apply_are_left_out(load_space: LoadSpace) -> None:
    text = """\
space:
  adapter.kind: {choice: [none, lora]}
  adapter.train_decoder: {choice: [true, false]}
  adapter.rank: {choice: [4, 8], when: {adapter.kind: lora}}
  adapter.targets: {choice: [image_encoder, both], when: {adapter.kind: lora}}
  adapter.dropout: {low: 0.0, high: 0.2, when: {adapter.kind: lora}}
start_from: recorded
"""
    points = {point.name: point.values for point in load_space(text).start_from}
    assert points["recorded/v2"] == {"adapter.kind": "none", "adapter.train_decoder": True}
    assert points["recorded/lora-r8"] == {
        "adapter.kind": "lora",
        "adapter.train_decoder": False,
        "adapter.rank": 8,
        "adapter.targets": "image_encoder",
        "adapter.dropout": 0.1,
    }


def test_what_is_trained_must_be_as_recorded_where_it_is_not_searched(load_space: LoadSpace) -> None:
    space = "space: {optim.lr: {low: 1.0e-6, high: 1.0e-3}}\nstart_from: recorded\n"
    names = {p.name for p in load_space(f"fixed: {{adapter.targets: image_encoder}}\n{space}").start_from}
    assert names == set()  # a dropout of 0.1 belongs to the recorded LoRA
    fixed = "{adapter.targets: image_encoder, adapter.dropout: 0.1, loss.dice: 7}"
    (point,) = load_space(f"fixed: {fixed}\n{space}").start_from
    assert point.name == "recorded/lora-r8" and point.values == {"optim.lr": 1e-4}
    assert "loss.dice 7 in place of 1" in point.note and "optim.warmup_epochs 0 in place of 2" in point.note


@pytest.mark.parametrize(
    ("name", "share"), [("v1", 0.0), ("v2", 175 / 1500), ("v3", 250 / 600), ("lora-light", 0.25), ("lora-r8", 0.1)]
)
def test_warmup_as_a_share_of_the_recorded_run(name: str, share: float) -> None:
    one = next(one for one in list_recorded() if one.name == name)
    assert compute_warmup_share(Recipe.from_flat(one.fixed), one.max_epochs, one.n_regions) == share


@pytest.mark.parametrize("space", ["lora", "recorded/v2", "recorded/tta", "recorded/prompts"])
def test_the_sampler_proposes_points_first_and_by_name(tmp_path: Path, space: str) -> None:
    config = load_config(find_space(space))
    points = config.start_from
    if space == "lora":
        points = tuple(p for _, p in describe_recorded(config.space, config.fixed) if isinstance(p, StartingPoint))
    study_file = StudyFile(tmp_path / "study.log", "s", seed=0)
    searcher = StudySearcher(
        study_file, config.space, config.num_trials, max(1, config.max_epochs), starting_points=points
    )
    for number, point in enumerate(points):
        proposed = searcher.suggest(f"t{number}")
        assert isinstance(proposed, dict) and proposed.items() >= dict(point.values).items()
    names = [trial.user_attrs.get("starting_point") for trial in study_file.open().trials]
    assert names == [point.name for point in points]
