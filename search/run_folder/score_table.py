"""Tables of scores (CSV), one row per (image, class) pair: written and read."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.errors import ConfigError
from trainables.errors import Finding
from trainables.files.damage import CONTENT_ERRORS
from trainables.files.whole_file import write_whole
from trainables.protocol.scores import Scores

if TYPE_CHECKING:
    from search.run_folder.search_record import SearchRecord


def _read_zeroshot(folder: Path, record: SearchRecord) -> dict[tuple[str, str], float]:
    """Returns the Dice of zero-shot SAM2 by (image, class), as the search wrote it."""
    path, wanted = folder / "scores_val_zeroshot.csv", record.make_context().protocol
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = {(row["file"], row["class"]): float(row["zeroshot"]) for row in rows}
        protocols = {row["protocol"] for row in rows}
    except (*CONTENT_ERRORS, csv.Error) as error:
        what = f"holds no scores of zero-shot SAM2 ({type(error).__name__}: {error})"
        raise ConfigError([Finding(str(path), what, "the search has to get that far: --resume it")]) from error
    if protocols != {wanted.id}:
        what = f"was scored under protocol {', '.join(sorted(protocols)) or 'none'}, the search says {wanted.id}"
        raise ConfigError([Finding(str(path), what, "files of two searches got mixed: search again")])
    return found


def write_scores(path: Path, scores: Mapping[str, Scores], marks: Mapping[str, str] | None = None) -> None:
    """Writes one row an (image, class) pair with a Dice column a model: what ``search.verdict`` reads.

    Args:
        path: The file.
        scores: Of the same pairs under one protocol, by the column's name.
        marks: Further columns that say the same in every row.
    """
    marks = marks or {}
    first, compared = next(iter(scores.values())), [each.compared for each in scores.values()]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["file", "class", "patient", "protocol", *scores, "floor", "ceiling", *marks])
    for index, pair in enumerate(first.compared):
        dice = [f"{each[index].dice:.6f}" for each in compared]
        limits = [f"{pair.floor:.6f}", f"{pair.ceiling:.6f}"]
        told = [pair.file, pair.class_name, pair.patient, first.protocol.id, *dice, *limits]
        writer.writerow([*told, *marks.values()])
    write_whole(path, file.getvalue())


@dataclass(frozen=True)
class PairMeans:
    """Means over (image, class) pairs of one file of scores.

    Attributes:
        overall: Mean over all pairs by column: a model, ``floor`` or ``ceiling``.
        by_class: The same of each class, by its name.
        n_pairs: Number of pairs.
    """

    overall: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, float]]
    n_pairs: int


def _read_means(path: Path) -> PairMeans | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in ("winner", "zeroshot", "floor", "ceiling") if rows and name in rows[0]]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for column in columns:
            values[row["class"]][column].append(float(row[column]))
    by_class = {name: {each: float(np.mean(of[each])) for each in columns} for name, of in values.items()}
    overall = {each: float(np.mean([float(row[each]) for row in rows])) for each in columns}
    return PairMeans(overall, by_class, len(rows)) if rows else None
