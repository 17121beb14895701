"""Tables of scores (CSV), one row per (image, class) pair: the one writer and the one reader."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from search.errors import ConfigError
from search.run_folder.layout import describe_resume
from trainables.files.whole_file import write_whole

if TYPE_CHECKING:
    from trainables.protocol.scores import Scores

_COLUMNS = ("winner", "zeroshot", "floor", "ceiling")
_ROWS_SHOWN = 10


@dataclass(frozen=True)
class PairMeans:
    """Mean Dice over the (image, class) pairs of one table, by column: a model, ``floor`` or ``ceiling``."""

    overall: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, float]]
    n_pairs: int


def tabulate(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """Returns one row per (image, class) pair with a Dice column per model, scored on the same pairs and protocol."""
    first = next(iter(scores.values()))
    pairs = [(pair.file, pair.class_name) for pair in first.compared]
    assert all(pairs == [(pair.file, pair.class_name) for pair in each.compared] for each in scores.values())
    return pd.DataFrame(
        {
            "file": [pair.file for pair in first.compared],
            "class": [pair.class_name for pair in first.compared],
            "patient": [pair.patient for pair in first.compared],
            "protocol": first.protocol.id,
            **{name: [pair.dice for pair in each.compared] for name, each in scores.items()},
            "floor": [pair.floor for pair in first.compared],
            "ceiling": [pair.ceiling for pair in first.compared],
        }
    )


def write_scores(path: Path, scores: Mapping[str, Scores], constants: Mapping[str, str] | None = None) -> None:
    """Writes a table of scores, which ``search.verdict`` reads, with further columns of one value in every row."""
    table = tabulate(scores).assign(**(constants or {}))
    text = table.to_csv(index=False, float_format=format_score, na_rep="nan", lineterminator="\r\n")
    write_whole(path, text)


def format_score(score: float) -> str:
    """Returns a score as files hold it."""
    return f"{score:.6f}"


def read_table(path: Path) -> pd.DataFrame:
    """Returns the cells of a CSV file as text, indexed by line number; blank lines are left out.

    Raises:
        ConfigError: If the file cannot be read, is empty, or has rows that are longer or shorter than its header.
    """
    fix = "give a CSV file in UTF-8"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError.at(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", fix) from None
    if not rows:
        raise ConfigError.at(path, "is empty", f"{fix} with a header")
    (_, header), *rows = rows
    if uneven := [number for number, cells in rows if len(cells) != len(header)]:
        what = f"the header has {len(header)} columns, but not {format_rows(uneven)}"
        raise ConfigError.at(path, what, "give every row one value a column")
    numbers, cells = [number for number, _ in rows], [cells for _, cells in rows]
    return pd.DataFrame(cells, numbers, [name.strip() for name in header], dtype=str)


def format_rows(numbers: Sequence[int] | pd.Index[int]) -> str:
    """Returns the numbers of rows in words, the first ten of many."""
    shown = ", ".join(str(number) for number in numbers[:_ROWS_SHOWN])
    more = f" and {len(numbers) - _ROWS_SHOWN} more" if len(numbers) > _ROWS_SHOWN else ""
    return f"{'row' if len(numbers) == 1 else 'rows'} {shown}{more}"


def read_means(path: Path) -> PairMeans | None:
    """Returns the mean Dice of winner and zero-shot with floor and ceiling; None without a file or without pairs.

    Raises:
        ConfigError: If the file is no table.
        ValueError: If a cell holds no number.
        KeyError: If there is no column ``class``.
    """
    if not path.is_file():
        return None
    table = read_table(path)
    if table.empty:
        return None
    dice = table[[name for name in _COLUMNS if name in table]].astype(float)
    by_class = dice.groupby(table["class"], sort=False).agg(lambda column: column.mean(skipna=False))
    return PairMeans(dice.mean(skipna=False).to_dict(), by_class.to_dict("index"), len(table))


def read_zeroshot(path: Path, protocol_id: str) -> dict[tuple[str, str], float]:
    """Returns the Dice of zero-shot SAM2 by (image, class).

    Raises:
        ConfigError: If the file holds no such scores, or scores under another protocol.
    """
    try:
        table = read_table(path)
        dice = dict(zip(zip(table["file"], table["class"], strict=True), table["zeroshot"].astype(float), strict=True))
        protocols = sorted(table["protocol"].unique())
    except (ConfigError, KeyError, ValueError) as error:
        what = f"holds no scores of zero-shot SAM2 ({type(error).__name__}: {error})"
        fix = f"the search has to get that far: {describe_resume(path.parent)}"
        raise ConfigError.at(path, what, fix) from error
    if protocols != [protocol_id]:
        what = f"was scored under protocol {', '.join(protocols) or 'none'}, the search says {protocol_id}"
        raise ConfigError.at(path, what, "files of two searches got mixed: search again")
    return dice
