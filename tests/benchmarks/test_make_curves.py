"""Which configurations a table gets, and how they are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curve_table import CurveTable, read_table
from benchmarks.make_curves import draw_config, hash_space, list_missing, main
from search.space.config import SearchConfig

TRAINED = """
name: tiny
max_epochs: 2
scales: [1.0, 0.5]
fixed: {optim.ema_decay: 0.5}
space: {optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}
start_from: [{name: first, optim.lr: 1.0e-3}]
"""


def test_a_configuration_follows_from_seed_and_number_alone(config: SearchConfig) -> None:
    assert draw_config(config, 0, 7) == draw_config(config, 0, 7)
    drawn = [draw_config(config, seed, number)["optim.lr"] for seed in (0, 1) for number in range(20)]
    assert len(set(drawn)) == 40 and 1e-4 <= min(map(float, drawn)) and max(map(float, drawn)) <= 1e-2
    for number in range(20):
        params = draw_config(config, 0, number)
        assert ("augment.strength" in params) == (params["augment.kind"] == "color")


def test_the_first_part_has_the_starting_points(config: SearchConfig, table: CurveTable) -> None:
    assert list_missing(table, config, 0, 0, 30) == {}
    assert list(list_missing(table, config, 0, 0, 32)) == [30, 31]
    empty = CurveTable({})
    assert list(list_missing(empty, config, 0, 0, 2)) == ["first", 0, 1]
    assert list(list_missing(empty, config, 0, 2, 2)) == [2, 3]
    assert draw_config(config, 0, "first") == config.start_from[0].values


def test_the_space_is_known_by_what_decides_a_row(config: SearchConfig) -> None:
    plain = config.to_dict()
    assert hash_space(plain) == hash_space({**plain, "num_trials": 3, "name": "other"})
    assert hash_space(plain) != hash_space({**plain, "max_epochs": 3})


def test_a_stopped_command_goes_on_and_gives_what_one_run_gives(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray makes a folder there
    (tmp_path / "tiny.yaml").write_text(TRAINED)
    common = ["--space", "tiny.yaml", "--data", str(small_root), "--protocol", "box"]
    assert main([*common, "--configs", "1", "--out", "t.gz"]) == 0
    before = read_table(Path("t.gz"))
    assert list(before.rows) == ["first", 0]
    row = before.rows["first"]
    assert {
        len(row.metrics[name])
        for name in (
            *(f"{part}_dice{ending}" for part in ("val", "test") for ending in ("", "_raw", "@0.5")),
            *("val_loss", "lr", "seconds/train"),
        )
    } == {2}
    assert len(row.pairs) == 2 and len(row.pairs[0]) == len(before.header["val_pairs"])
    mean = sum(row.pairs[1]) / len(row.pairs[1])
    assert row.metrics["val_dice"][1] == pytest.approx(mean, abs=1e-4)
    assert main([*common, "--first", "1", "--configs", "1", "--out", "part.gz"]) == 0
    assert main([*common, "--configs", "2", "--join", "part.gz", "--out", "t.gz"]) == 0
    assert "0 to be made" in capsys.readouterr().out
    after = read_table(Path("t.gz"))
    assert list(after.rows) == ["first", 0, 1] and after.rows["first"] == row
    assert main([*common, "--seed", "1", "--out", "t.gz"]) == 2
    assert "differs in seed" in capsys.readouterr().err
