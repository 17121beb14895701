"""The file of a table of learning curves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from benchmarks.curve_table import CurveRow, CurveTable, read_table, shorten
from search.errors import ConfigError


def test_a_table_is_read_as_it_was_written_and_equal_tables_are_equal_bytes(table: CurveTable, tmp_path: Path) -> None:
    table.rows[30] = CurveRow(30, {"optim.lr": 0.1}, 0, {"val_dice": [0.1234567, math.nan]}, [[0.12345]], "diverged")
    table.write(tmp_path / "a.gz")
    found = read_table(tmp_path / "a.gz")
    assert found.header == table.header and list(found.rows) == ["first", *range(31)]
    assert found.rows[3].params == table.rows[3].params
    assert found.rows[3].metrics["val_dice"] == pytest.approx(list(table.rows[3].metrics["val_dice"]), rel=1e-5)
    failed = found.rows[30]
    assert (failed.failure, failed.pairs, failed.metrics["val_dice"][0]) == ("diverged", ((0.1234,),), 0.123457)
    assert math.isnan(failed.metrics["val_dice"][1])
    found.write(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_rows_of_another_search_are_refused_by_what_differs(table: CurveTable) -> None:
    part = CurveTable({**table.header, "environment": {"python": "4"}}, {40: table.rows[1]})
    table.take_rows(part, Path("part"))  # made elsewhere
    assert 40 in table.rows
    other = CurveTable({**table.header, "seed": 1, "model_hash": "1"})
    with pytest.raises(ConfigError, match="differs in model_hash, seed.*choose another file$"):
        table.take_rows(other, Path("other"))


def test_what_another_processor_makes_of_the_demo_is_taken_or_the_remedy_named(table: CurveTable) -> None:
    mine = CurveTable({**table.header, "data": "demo"})
    zeroshot = table.header["zeroshot"]
    mine.take_rows(CurveTable({**mine.header, "zeroshot": {**zeroshot, "val": 0.500001, "val_pairs": [5001]}}), Path())
    with pytest.raises(ConfigError, match="differs in zeroshot"):
        mine.take_rows(CurveTable({**mine.header, "zeroshot": {**zeroshot, "val": 0.501}}), Path())
    with pytest.raises(ConfigError, match="set NPY_DISABLE_CPU_FEATURES=X86_V4"):
        mine.take_rows(CurveTable({**mine.header, "data_fingerprint": "g"}), Path())


@pytest.mark.parametrize("content", [None, b"", b"no gzip", "cut"])
def test_what_is_no_table_is_refused(table: CurveTable, tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "table.gz"
    if content == "cut":
        table.write(path)
        content = path.read_bytes()[:-20]
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no table of curves"):
        read_table(path)


def test_another_version_is_refused(table: CurveTable, tmp_path: Path) -> None:
    dataclasses.replace(table, header={**table.header, "version": 2}).write(tmp_path / "t.gz")
    with pytest.raises(ConfigError, match="version 2, not 1"):
        read_table(tmp_path / "t.gz")


@pytest.mark.parametrize(("value", "short"), [(0.123456789, 0.123457), (1e-7, 1e-7), (12345678.0, 12345700.0)])
def test_six_digits_are_kept(value: float, short: float) -> None:
    assert shorten(value) == short
