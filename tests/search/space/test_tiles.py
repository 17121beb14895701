"""Tiles in a space file, and the parameters that are searched with them alone."""

from pathlib import Path

import pytest
import yaml

from search.errors import ConfigError
from search.space.config import SearchConfig, find_space, load_config
from trainables.tiles.grid import Tiles

SPACE = """
space:
  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  sampling.kind: {choice: [uniform, balanced], when: {tiles: true}}
  sampling.strength: {low: 0.1, high: 0.7, when: {tiles: true, sampling.kind: balanced}}
  augment.kind: {choice: [none, flips], when: {tiles: false}}
"""


def load(folder: Path, text: str, tiles: Tiles | None = None) -> SearchConfig:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_config(path, tiles)


def test_a_file_or_the_command_line_says_the_tiles(tmp_path: Path) -> None:
    text = "tiles: {side_px: 512, um_per_px: 1, overlap: 0.5}" + SPACE
    assert load(tmp_path, text).tiles == Tiles(512, 1.0, 0.5)
    assert load(tmp_path, text, Tiles(64)).tiles == Tiles(64)
    assert load(tmp_path, SPACE).tiles is None and "tiles" not in load(tmp_path, SPACE).to_dict()


def test_parameters_are_searched_with_or_without_tiles(tmp_path: Path) -> None:
    plain = load(tmp_path, SPACE)
    assert list(plain.space) == ["optim.lr", "augment.kind"] and plain.space["augment.kind"].when == ()
    tiled = load(tmp_path, SPACE, Tiles(64))
    assert list(tiled.space) == ["optim.lr", "sampling.kind", "sampling.strength"]
    assert [condition.name for condition in tiled.space["sampling.strength"].when] == ["sampling.kind"]
    assert load(tmp_path, yaml.safe_dump(tiled.to_dict(), sort_keys=False)) == tiled


def test_the_shipped_space_searches_windows_with_tiles_alone() -> None:
    plain, tiled = (load_config(find_space("lora.yaml"), tiles) for tiles in (None, Tiles(64)))
    more = {"sampling.kind", "sampling.strength", "sampling.scale_jitter"}
    assert tiled.space.keys() - plain.space.keys() == more
    assert {name: tiled.space[name] for name in plain.space} == dict(plain.space)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiles: 64", "must be a mapping"),
        ("tiles: {}", "has no side_px"),
        ("tiles: {um_per_px: 0.5}", "has no side_px"),
        ("tiles: {side_px: 64.5}", "whole number"),
        ("tiles: {side_px: true}", "whole number"),
        ("tiles: {side_px: 64, overlap: a}", "must be a number"),
        ("tiles: {side_px: 8}", "side_px must lie in 32..20000"),
        ("tiles: {side: 64}", "unknown key"),
        ("fixed: {sampling.kind: balanced}", "sampling.kind has no effect without tiles"),
    ],
)
def test_what_is_wrong_with_tiles_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text + SPACE)


def test_a_condition_on_tiles_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be true or false"):
        load(tmp_path, SPACE.replace("tiles: true", "tiles: maybe"))
