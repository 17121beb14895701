"""Scores of two models on the same (image, class) pairs, checked, from a table in memory or a CSV file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search.errors import ConfigError
from search.judging.statistics import FloatArray
from search.run_folder.score_table import format_rows, read_table
from trainables.data.patients import describe_doubts, find_patient, find_tcga_patient
from trainables.errors import Finding, collect_findings

PATIENT_COLUMN = "patient"


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Scores of two models, float64 in [0, 1], on the same (image, class) pairs; `pair_scores` builds and checks them.

    Every array has the shape (pairs,); the candidate is the model that should win. The notes say what the reader must
    know about how patients were distinguished.
    """

    class_name: NDArray[np.str_]
    patient: NDArray[np.str_]
    candidate: FloatArray
    baseline: FloatArray
    candidate_name: str
    baseline_name: str
    notes: tuple[str, ...]


def pair_scores(table: pd.DataFrame, candidate: str, baseline: str, where: str = "scores") -> PairedScores:
    """Checks the scores of two models on the same pairs; the candidate is the model that should win.

    Args:
        table: One row a pair: `file`, `class`, a column of scores in [0, 1] for each model, and perhaps `patient`,
            without which TCGA barcodes in file names decide. The index numbers the rows in the findings.
        where: Where the scores come from, for the findings.

    Raises:
        ConfigError: With every finding: nothing to compare, missing or impossible scores, an (image, class) pair
            given twice, an empty name, one column for both models.
    """
    if table.empty:
        raise ConfigError.at(where, "holds no scores", "give at least one (image, class) pair")
    findings = []
    if candidate == baseline:
        what = f"`{candidate}` is both candidate and baseline"
        findings.append(Finding(where, what, "name two different columns"))
    # Python's own float(): pandas' reading of decimals may differ in the last bit.
    scores = {name: np.array([_parse_score(cell) for cell in table[name]]) for name in {candidate: 0, baseline: 0}}
    for name, values in scores.items():
        findings += _find_bad_scores(values, name, where, table.index)
    for name in ("class", "file", PATIENT_COLUMN):
        if name in table and len(empty := table.index[table[name].str.strip() == ""]):
            findings.append(Finding(where, f"no {name} in {format_rows(empty)}", "name it in every row"))
    for (image, class_name), rows in table[table.duplicated(["file", "class"], keep=False)].groupby(
        ["file", "class"], sort=False
    ):
        what = f"{image}, {class_name} is given {len(rows)} times ({format_rows(rows.index)})"
        findings.append(Finding(where, what, "keep one of them"))
    if findings:
        raise ConfigError(findings)
    patients, notes = _read_patients(table["file"], table.get(PATIENT_COLUMN))
    return PairedScores(
        class_name=np.asarray(table["class"], dtype=np.str_),
        patient=np.asarray(patients, dtype=np.str_),
        candidate=scores[candidate],
        baseline=scores[baseline],
        candidate_name=candidate,
        baseline_name=baseline,
        notes=notes,
    )


def read_scores(path: Path, candidate: str, baseline: str, patient_column: str | None = None) -> PairedScores:
    """Reads two columns of a CSV file with the columns `file`, `class` and one for each model.

    The patients are in the named column, or in one called `patient`; without either, barcodes in file names.

    Raises:
        ConfigError: With every finding: a file that cannot be read, missing columns with the nearest name, columns
            that occur twice, and all that `pair_scores` refuses.
    """
    table = read_table(path)
    header = list(table.columns)
    if patient_column is None and header.count(PATIENT_COLUMN) == 1:
        patient_column = PATIENT_COLUMN
    wanted = dict.fromkeys(["file", "class", candidate, baseline])
    findings = _find_bad_columns(header, [*wanted, *([] if patient_column is None else [patient_column])], str(path))
    if any(header.count(name) != 1 for name in wanted):
        raise ConfigError(findings)
    pairs = table[list(wanted)].apply(lambda column: column.str.strip())
    if patient_column is not None and header.count(patient_column) == 1:
        pairs[PATIENT_COLUMN] = table[patient_column].str.strip()
    with collect_findings(findings):
        scores = pair_scores(pairs, candidate, baseline, str(path))
    if findings:
        raise ConfigError(findings)
    return scores


def _find_bad_scores(values: FloatArray, name: str, where: str, rows: pd.Index[int]) -> list[Finding]:
    findings = []
    missing = np.isnan(values)
    if missing.any():
        what = f"no number for `{name}` in {format_rows(rows[missing])}"
        findings.append(Finding(where, what, "score every pair with both models, or leave the pair out"))
    outside = (values < 0) | (values > 1)
    if outside.any():
        got = f"{values[outside][0]:g} ({format_rows(rows[outside])})"
        what = f"`0 <= {name} <= 1` must hold, but got {got}"
        findings.append(Finding(where, what, "give scores as fractions, not percent"))
    return findings


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


def _read_patients(files: pd.Series[str], declared: pd.Series[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """Returns each row's patient, from its column or by its file's name, and notes on files that show no or another."""
    if declared is not None:
        patients = [find_patient(file, one) or file for file, one in zip(files, declared, strict=True)]
        return patients, tuple(describe_doubts(dict(zip(files, patients, strict=True))))
    patients, alone = [], set()
    for file in files:
        path = PurePosixPath(file)
        patient = find_patient(path.name) or find_tcga_patient(file)
        if patient is None:
            alone.add(file)
        # the folder stays in: 001.png of two folders need not be one patient
        patients.append(patient or (str(path.with_suffix("")) if path.name else file))
    if not alone:
        return patients, ()
    count = "1 file name holds" if len(alone) == 1 else f"{len(alone)} file names hold"
    note = f"{count} no TCGA barcode: each such file counts as its own patient"
    return patients, (f"{note} (--patient COL names a column)",)


def _parse_score(cell: str | float) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")  # a finding names the rows without a number
