"""A space over a space: what ``extends`` and ``--set`` change, what gives way, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from search.errors import ConfigError
from search.space.config import SearchConfig, find_space, load_config
from search.space.parameters import Choice, FloatRange

Write = Callable[..., Path]
BASE = """\
name: base
num_trials: 12
scheduler: {kind: asha, grace_period: 1, reduction_factor: 3}
fixed: {optim.grad_clip: 1.0}
space:
  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  adapter.rank: {choice: [4, 8, 16]}
start_from:
  - {name: usual, optim.lr: 1.0e-3, adapter.rank: 8}
  - {name: rank alone, adapter.rank: 4}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def change(write: Write) -> Callable[..., SearchConfig]:
    """Reads the base with settings."""
    return lambda *settings: load_config(write(BASE, "base.yaml"), settings=settings)


def list_findings(path: Path, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(path, settings=settings)
    return [str(finding) for finding in refused.value.findings]


def test_settings_change_keys_and_ends_of_ranges(change: Callable[..., SearchConfig]) -> None:
    config = change("optim.lr.high=3e-3", "sampler.kind=gp", "num_trials=5", "space.adapter.rank.choice=[4, 8, 32]")
    assert config.space["optim.lr"] == FloatRange(1e-4, 3e-3, log=True, step=None)
    assert config.space["adapter.rank"] == Choice((4, 8, 32))
    assert (config.name, config.sampler.kind, config.num_trials) == ("base", "gp", 5)


def test_a_field_that_is_fixed_leaves_the_space_and_the_starting_points(change: Callable[..., SearchConfig]) -> None:
    config = change("adapter.rank=8")
    assert config.fixed == {"optim.grad_clip": 1.0, "adapter.rank": 8} and list(config.space) == ["optim.lr"]
    assert [(point.name, dict(point.values)) for point in config.start_from] == [("usual", {"optim.lr": 1e-3})]
    assert "optim.grad_clip" not in change("optim.grad_clip={low: 0.5, high: 2}").fixed


def test_what_cannot_stand_beside_a_setting_gives_way(change: Callable[..., SearchConfig]) -> None:
    assert change("scheduler.kind=none").scheduler.kind == "none"
    assert change("optim.lr.choice=[1e-3, 2e-3]").space["optim.lr"] == Choice((1e-3, 2e-3))
    assert change("adapter.rank={low: 2, high: 32}").space["adapter.rank"].low == 2  # type: ignore[union-attr]


def test_null_removes(change: Callable[..., SearchConfig]) -> None:
    config = change("optim.lr=null", "optim.grad_clip=null", "start_from=null", "scheduler=null")
    assert (list(config.space), config.fixed, config.start_from) == (["adapter.rank"], {}, ())
    assert config.scheduler.kind == "asha"


def test_a_space_extends_another_and_keeps_what_it_does_not_say(write: Write) -> None:
    write(BASE, "base.yaml")
    write("extends: base.yaml\nnum_trials: 20\nspace: {optim.lr: {high: 0.002}}\n", "middle.yaml")
    path = write("extends: ../middle.yaml\nfixed: {adapter.rank: 16}\nsampler: {kind: qmc}\n", "folder/top.yaml")
    config = load_config(path, settings=["num_trials=21"])
    assert (config.name, config.num_trials, config.sampler.kind) == ("top", 21, "qmc")
    assert config.space == {"optim.lr": FloatRange(1e-4, 2e-3, log=True, step=None)}
    assert config.layers == ("base.yaml", "middle.yaml", "top.yaml", "--set num_trials=21")


def test_a_file_may_have_the_name_of_the_shipped_space_that_it_extends(write: Write) -> None:
    config = load_config(write("extends: lora\nnum_trials: 3\n", "lora.yaml"))
    assert config.space == load_config(find_space("lora")).space and config.num_trials == 3
    assert load_config(write("extends: lora.yaml\nnum_trials: 4\n", "lora.yaml")).num_trials == 4


def test_the_resolved_space_needs_no_other_file(write: Write) -> None:
    config = load_config(find_space("lora"), settings=["optim.lr.high=3e-3", "adapter.alpha=16"])
    again = load_config(write(config.to_yaml(), "copy.yaml"))
    assert again == config and again.layers == ("copy.yaml",)
    assert "--set adapter.alpha=16" in config.to_yaml().splitlines()[0]


# A setting, where its finding says that it is, and what it says.
WRONG_SETTINGS = {
    "optim.lr": ("--set optim.lr", "has no value"),
    "=3": ("--set =3", "names no key"),
    "optim..lr=3": ("--set optim..lr", "names no key"),
    "tokens=3": ("--set tokens", "unknown key 'tokens'"),
    "optim.lrr.high=1": ("--set optim.lrr.high", "did you mean 'optim.lr'?"),
    "optim.lr.hihg=1": ("--set optim.lr.hihg", "did you mean 'high'?"),
    "optim.lr.high=fast": ("--set optim.lr.high", "must be float, but got 'fast'"),
    "optim.lr.high=1e-6": ("--set optim.lr.high", "low <= high must hold"),
    "optim.lr.high=5e-4": ("base.yaml:9 start_from[0].optim.lr", "0.001 lies outside the space"),
    "adapter.rank=9999": ("--set adapter.rank", "must be at most 256"),
    "sampler.kind=gpp": ("--set sampler.kind", "did you mean 'gp'?"),
    "scheduler.quorum=3": ("--set scheduler.quorum", "has no effect with kind: asha"),
    "adapter.rank={choice: [4": ("--set adapter.rank", "not valid YAML"),
    "stop=null": ("--set stop", "there is nothing to remove"),
    "seed=010": ("--set seed", "YAML 1.1 reads 010 as another number"),
    "extends=lora.yaml": ("--set extends", "unknown key 'extends'"),
}


@pytest.mark.parametrize("setting", WRONG_SETTINGS)
def test_a_wrong_setting_has_one_finding(setting: str, write: Write) -> None:
    where, what = WRONG_SETTINGS[setting]
    (finding,) = list_findings(write(BASE, "base.yaml"), setting)
    assert finding.startswith(f"{where}: ") and what in finding


def test_all_wrong_settings_are_named_at_once(write: Write) -> None:
    found = list_findings(write(BASE, "base.yaml"), "sampler.kind=gpp", "optim.lr", "adapter.rank=9999")
    assert [line.partition(": ")[0] for line in found] == ["--set sampler.kind", "--set adapter.rank", "--set optim.lr"]


# What a file says, and its finding.
WRONG_FILES = {
    "extends: ../none.yaml\n": "mine.yaml:1 extends: ../none.yaml is neither a file in ",
    "extends: adaptres.yaml\n": "did you mean adapters.yaml?",
    "extends: [base.yaml, lora.yaml]\n": "mine.yaml:1 extends: must name one space file, but got a list",
    "num_trials: 3\nextends: mine.yaml\n": "mine.yaml:2 extends: the files extend each other in a circle: mine.yaml ->",
    "extends: circle.yaml\n": "circle.yaml:1 extends: the files extend each other in a circle: mine.yaml -> circle",
    "extends: list.yaml\n": "list.yaml: must be a mapping, but got a list",
    "extends: base.yaml\nspace:\n  optim.lrr: {high: 1.0}\n": "mine.yaml:3 space.optim.lrr: unknown recipe field",
    "extends: base.yaml\nspace:\n  optim.lr:\n    high: 1.0e-6\n": "mine.yaml:3 space.optim.lr: low <= high must hold",
    "extends: base.yaml\npatience: null\n": "mine.yaml:2 patience: there is nothing to remove",
    "extends: wrong.yaml\n": "wrong.yaml:3 space.optim.lr.low: optim.lr must be float",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_file_has_one_finding_with_its_own_name(text: str, write: Write) -> None:
    write(BASE, "base.yaml")
    write("extends: mine.yaml\n", "circle.yaml")
    write("[1, 2]\n", "list.yaml")
    write("name: wrong\nspace:\n  optim.lr: {low: x, high: 1.0e-2}\n", "wrong.yaml")
    (finding,) = list_findings(write(text))
    assert WRONG_FILES[text] in finding


def test_a_field_that_is_fixed_and_searched_names_both_places(write: Write) -> None:
    write("fixed: {optim.lr: 1.0e-3}\n", "fixed.yaml")
    both = yaml.safe_dump({"fixed": {"optim.lr": 1e-3}, "space": {"optim.lr": {"low": 1e-4, "high": 1e-2}}})
    (finding,) = list_findings(write(both), "num_trials=3")
    assert "optim.lr is fixed here and searched in mine.yaml:" in finding
