"""A table of real learning curves: configurations of a space, each trained to its end; one file, JSON lines in gzip."""

import gzip
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import ConfigError
from trainables.files.whole_file import write_whole
from trainables.recipe import Scalar

VERSION = 1
# Parts of a header that two tables need not share: where and with what their rows were made, and the space with its
# rules, whose hash says what decides a row.
_FREE = ("environment", "space")
SAME_DICE = 1e-4  # zero-shot of the same data and model differs by less between kinds of processor


@dataclass(frozen=True)
class CurveRow:
    """One configuration, trained to its end.

    Attributes:
        key: Its number among the configurations that are drawn, or the name of a starting point.
        params: What was drawn, by flat name.
        seed: Of its training.
        metrics: Name of a metric -> its value after each epoch; NaN where it was not finite. ``test_dice`` is that of
            the test regions, ``seconds/test`` what it cost; ``val_dice@0.5`` is that of half of the update.
        pairs: Validation Dice of each (region, class) pair in the header's order, by epoch.
        failure: Why the training ended before its last epoch; empty where it did not.
    """

    key: int | str
    params: Mapping[str, Scalar]
    seed: int
    metrics: Mapping[str, Sequence[float]]
    pairs: Sequence[Sequence[float]] = ()
    failure: str = ""


@dataclass
class CurveTable:
    """The rows of a table by their keys, and a header that says what they are measurements of.

    The header holds ``space`` (as a space file says it), ``space_hash``, ``max_epochs``, ``seed``, ``val_pairs``
    (region and class of each), ``zeroshot`` (Dice on ``val``, on ``test`` and of each validation pair), and what
    identifies data, protocol and model.
    """

    header: Mapping[str, Any]
    rows: dict[int | str, CurveRow] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the table whole: a process that dies leaves the file as it was. Equal tables are equal bytes."""
        lines = [{"version": VERSION, **self.header}, *(_to_dict(self.rows[key]) for key in sort_keys(self.rows))]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, gzip.compress(text.encode(), mtime=0))

    def take_rows(self, other: "CurveTable", path: Path) -> None:
        """Takes over the rows of a table of the same measurements.

        Raises:
            ConfigError: With every part of the header that differs; the path is the other table's.
        """
        differing = [
            name
            for name in sorted({*self.header, *other.header} - {*_FREE})
            if not _is_same(name, self.header.get(name), other.header.get(name))
        ]
        if differing:
            what = f"holds curves of another search: it differs in {', '.join(differing)}"
            fix = "choose another file"
            if differing == ["data_fingerprint"] and self.header["data"] == "demo":
                fix += ", or set NPY_DISABLE_CPU_FEATURES=X86_V4 and a new --storage: the demo's pixels depend on the"
                fix += " processor (docs/demo.md)"
            raise ConfigError.at(path, what, fix)
        self.rows.update(other.rows)


def read_table(path: Path) -> CurveTable:
    """Reads a table.

    Raises:
        ConfigError: If the file cannot be read, is no table, or is one of another version.
    """
    fix = "make it with python -m benchmarks.make_curves"
    try:
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        header, *rows = lines
        version = header.pop("version")
        found = CurveTable(header, {row.key: row for row in map(_from_dict, rows)})
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError.at(path, f"is no table of curves ({error})", fix) from error
    if version != VERSION:
        raise ConfigError.at(path, f"is a table of version {version}, not {VERSION}", fix)
    return found


def _is_same(name: str, mine: Any, theirs: Any) -> bool:
    if name != "zeroshot" or not (mine and theirs):
        return bool(mine == theirs)
    return all(math.isclose(mine[part], theirs[part], abs_tol=SAME_DICE) for part in ("val", "test"))


def sort_keys(keys: Mapping[int | str, object]) -> list[int | str]:
    """Returns the starting points' names as they come, then the numbers in their order."""
    return [*(key for key in keys if isinstance(key, str)), *sorted(key for key in keys if isinstance(key, int))]


def name_scale(scale: float) -> str:
    """Returns the ending of a metric's name at a scale of the update; nothing as trained."""
    return "" if scale == 1 else f"@{scale:g}"


def is_scored(row: CurveRow, scales: Collection[float]) -> bool:
    """Returns whether a row has the Dice at each of these scales of the update; where training failed it may lack."""
    return bool(row.failure) or all(f"val_dice{name_scale(scale)}" in row.metrics for scale in scales)


def shorten(value: float, digits: int = 6) -> float:
    """Rounds to so many significant digits; NaN where the value is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else math.nan


def _to_dict(row: CurveRow) -> dict[str, Any]:
    plain: dict[str, Any] = {"key": row.key, "params": dict(row.params), "seed": row.seed}
    plain["metrics"] = {name: [_to_json(value) for value in curve] for name, curve in row.metrics.items()}
    plain["pairs"] = [[round(1e4 * value) for value in pairs] for pairs in row.pairs]
    return plain | ({"failure": row.failure} if row.failure else {})


def _to_json(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else shorten(value)


def _from_dict(plain: Mapping[str, Any]) -> CurveRow:
    metrics = {
        name: tuple(math.nan if value is None else float(value) for value in curve)
        for name, curve in plain["metrics"].items()
    }
    pairs = tuple(tuple(value / 1e4 for value in each) for each in plain["pairs"])
    return CurveRow(plain["key"], plain["params"], plain["seed"], metrics, pairs, plain.get("failure", ""))
