"""Scores of two models on the same (image, class) pairs, checked, from columns or from a CSV file."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import ConfigError
from search.judging.statistics import FloatArray
from search.run_folder.score_table import format_rows, read_table
from trainables.data.regions import find_tcga_patient
from trainables.errors import Finding

PATIENT_COLUMN = "patient"


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Scores of two models on the same (image, class) pairs; build it with `pair_scores`, which checks them.

    Attributes:
        file: Image of each pair, shape (pairs,).
        class_name: Class of each pair.
        patient: Patient of each pair.
        candidate: Scores of the model that should win, float64 in [0, 1].
        baseline: Scores of the model to beat, float64 in [0, 1].
        candidate_name: What the candidate is called.
        baseline_name: What the baseline is called.
        notes: What the reader must know about how patients were told apart.
    """

    file: NDArray[np.str_]
    class_name: NDArray[np.str_]
    patient: NDArray[np.str_]
    candidate: FloatArray
    baseline: FloatArray
    candidate_name: str
    baseline_name: str
    notes: tuple[str, ...]


def pair_scores(
    file: Sequence[str],
    class_name: Sequence[str],
    candidate: Sequence[float] | FloatArray,
    baseline: Sequence[float] | FloatArray,
    *,
    patient: Sequence[str] | None = None,
    names: tuple[str, str] = ("candidate", "baseline"),
    where: str = "scores",
    rows: Sequence[int] | None = None,
) -> PairedScores:
    """Checks the scores of two models on the same pairs.

    Args:
        file: Image of each pair; TCGA names tell the patient.
        class_name: Class of each pair.
        candidate: Scores in [0, 1]; NaN stands for a missing one and is refused.
        baseline: Likewise.
        patient: Patient of each pair, if not to be read from the file names.
        names: What the candidate and the baseline are called.
        where: Where the scores come from, for the findings.
        rows: Number of each row in what the user sees (lines of a file); 0, 1, ... if not given.

    Raises:
        ConfigError: With every finding: nothing to compare, lengths that differ, missing or impossible
            scores, an (image, class) pair given twice, an empty name, one name for both models.
    """
    columns: dict[str, Sequence[Any] | FloatArray] = {
        "file": file,
        "class": class_name,
        names[0]: candidate,
        names[1]: baseline,
    }
    if patient is not None:
        columns["patient"] = patient
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError([Finding(where, f"columns differ in length: {lengths}", "give one value a pair")])
    if not len(file):
        raise ConfigError([Finding(where, "holds no scores", "give at least one (image, class) pair")])
    values = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    row_numbers = np.arange(len(file)) if rows is None else np.asarray(rows)
    findings = [_name_one_column(names[0], where)] if names[0] == names[1] else []
    for name in dict.fromkeys(names):
        findings += _find_bad_scores(values[name], name, where, row_numbers)
    for key in sorted(columns.keys() - set(names)):
        empty = row_numbers[[not str(value).strip() for value in columns[key]]]
        if empty.size:
            findings.append(Finding(where, f"no {key} in {format_rows(empty)}", "name it in every row"))
    findings += _find_duplicates(file, class_name, where, row_numbers)
    if findings:
        raise ConfigError(findings)
    patients, notes = _read_patients(file) if patient is None else ([str(p) for p in patient], ())
    return PairedScores(
        file=np.asarray(file, dtype=np.str_),
        class_name=np.asarray(class_name, dtype=np.str_),
        patient=np.asarray(patients, dtype=np.str_),
        candidate=values[names[0]],
        baseline=values[names[1]],
        candidate_name=names[0],
        baseline_name=names[1],
        notes=notes,
    )


def _name_one_column(name: str, where: str) -> Finding:
    return Finding(where, f"`{name}` is both candidate and baseline", "name two different columns")


def _find_bad_scores(
    values: FloatArray, name: str, where: str, row_numbers: NDArray[np.int_]
) -> list[Finding]:
    findings = []
    missing = np.isnan(values)
    if missing.any():
        what = f"no number for `{name}` in {format_rows(row_numbers[missing])}"
        findings.append(Finding(where, what, "score every pair with both models, or leave the pair out"))
    outside = (values < 0) | (values > 1)
    if outside.any():
        got = f"{values[outside][0]:g} ({format_rows(row_numbers[outside])})"
        what = f"`0 <= {name} <= 1` must hold, but got {got}"
        findings.append(Finding(where, what, "give scores as fractions, not percent"))
    return findings


def _find_duplicates(
    file: Sequence[str], class_name: Sequence[str], where: str, row_numbers: NDArray[np.int_]
) -> list[Finding]:
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, pair in enumerate(zip(file, class_name, strict=True)):
        places[pair].append(place)
    findings = []
    for (image, name), found in places.items():
        if len(found) > 1:
            what = f"{image}, {name} is given {len(found)} times ({format_rows(row_numbers[found])})"
            findings.append(Finding(where, what, "keep one of them"))
    return findings


def _read_patients(files: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The patient of each file, and a note where the name does not tell it."""
    patients, alone = [], set()
    for file in files:
        path = PurePosixPath(file)
        patient = find_tcga_patient(path.name.upper())
        if patient is None:
            alone.add(file)
        # the folder stays in: 001.png of two folders need not be one patient
        patients.append(patient or (str(path.with_suffix("")) if path.name else file))
    if not alone:
        return patients, ()
    count = "1 file name is" if len(alone) == 1 else f"{len(alone)} file names are"
    note = f"{count} not a TCGA barcode: each such file counts as its own patient"
    return patients, (f"{note} (--patient COL names a column)",)


def read_scores(path: Path, candidate: str, baseline: str, patient_column: str | None = None) -> PairedScores:
    """Reads two columns of a CSV file with the columns `file`, `class` and one for each model.

    Patients are told by the named column, or by one called `patient`, else by TCGA file names.

    Raises:
        ConfigError: With every finding: a file that cannot be read, missing columns with the nearest name,
            one column for both models, ragged rows, and all that `pair_scores` refuses.
    """
    table = read_table(path)
    header = list(table.columns)
    if patient_column is None and header.count(PATIENT_COLUMN) == 1:
        patient_column = PATIENT_COLUMN
    wanted = ["file", "class", candidate, baseline] + ([patient_column] if patient_column is not None else [])
    findings = _find_bad_columns(header, dict.fromkeys(wanted), str(path))
    if candidate == baseline:
        findings.append(_name_one_column(candidate, str(path)))
    if not all(header.count(name) == 1 for name in wanted[:4]):
        raise ConfigError(findings)
    columns = {name: table[name].str.strip().tolist() for name in header if header.count(name) == 1}
    try:
        scores = pair_scores(
            columns["file"],
            columns["class"],
            [_parse_score(cell) for cell in columns[candidate]],
            [_parse_score(cell) for cell in columns[baseline]],
            patient=None if patient_column is None else columns.get(patient_column),
            names=(candidate, baseline),
            where=str(path),
            rows=table.index.tolist(),
        )
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys([*findings, *error.findings]))) from None
    if findings:
        raise ConfigError(findings)
    return scores


def _find_bad_columns(header: Sequence[str], wanted: Iterable[str], where: str) -> list[Finding]:
    findings = []
    for name in wanted:
        if header.count(name) > 1:
            findings.append(Finding(where, f"column `{name}` stands twice", "rename one of them"))
        elif name not in header:
            nearest = difflib.get_close_matches(name, header, n=1)
            fix = f"did you mean `{nearest[0]}`?" if nearest else f"there are: {', '.join(header)}"
            findings.append(Finding(where, f"no column `{name}`", fix))
    return findings


def _parse_score(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")  # `pair_scores` lists the rows without a number
