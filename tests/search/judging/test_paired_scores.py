"""The checks of paired scores, from columns and from CSV files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pandas as pd
import pytest

from search.errors import ConfigError
from search.judging.paired_scores import pair_scores, read_scores


def write(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def findings_of(path: Path, candidate: str = "a", baseline: str = "b", patient: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_scores(path, candidate, baseline, patient)
    return [str(finding) for finding in caught.value.findings]


def test_same_patient_on_two_slides_counts_once() -> None:
    files = ["TCGA-A1-A0SK-DX1_x.png", "x_tcga.a1.a0sk-DX2_y.png", "images/TCGA-A1-A0SL-DX1.png", "TCGA-A1-A0SL/7.png"]
    scores = pair_scores(pd.DataFrame({"file": files, "class": "tumor", "a": 0.5, "b": 0.4}), "a", "b")
    assert scores.patient.tolist() == ["TCGA-A1-A0SK"] * 2 + ["TCGA-A1-A0SL"] * 2
    assert not scores.notes


def test_other_file_names_are_their_own_patient_and_that_is_said() -> None:
    columns = {"file": ["a/1.png", "b/1.png", "a/1.png"], "class": ["x", "x", "y"], "a": 0.5, "b": 0.4}
    scores = pair_scores(pd.DataFrame(columns), "a", "b")
    assert scores.patient.tolist() == ["a/1", "b/1", "a/1"]
    assert "2 file names hold no TCGA barcode" in scores.notes[0]


def test_patient_column_wins_over_the_file_name(tmp_path: Path) -> None:
    path = write(tmp_path, "file,class,who,a,b\nTCGA-A1-A0SK-1.png,x,p,0.1,0.2\nTCGA-A1-A0SL-1.png,x,p,0.3,0.2\n")
    scores = read_scores(path, "a", "b", "who")
    assert scores.patient.tolist() == ["p", "p"]
    assert "2 of 2 names hold a TCGA barcode that is not the patient" in scores.notes[0]


def test_slides_in_the_column_of_patients_are_read_as_their_patients(tmp_path: Path) -> None:
    path = write(
        tmp_path, "file,class,patient,a,b\n1.png,x,TCGA-A1-A0SK-DX1,0.1,0.2\n2.png,x,tcga-a1-a0sk-DX2,0.3,0.2\n"
    )
    scores = read_scores(path, "a", "b")
    assert scores.patient.tolist() == ["TCGA-A1-A0SK"] * 2 and not scores.notes


def test_a_column_of_patients_needs_no_naming(tmp_path: Path) -> None:
    path = write(tmp_path, "file,class,patient,a,b\n1.png,x,p,0.1,0.2\n2.png,x,p,0.3,0.2\n")
    scores = read_scores(path, "a", "b")
    assert scores.patient.tolist() == ["p", "p"] and not scores.notes


def test_every_bad_row_is_found_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path, "file,class,a,b\n1.png,x,0.5,\n\n2.png,x,1.5,nan\n3.png,,0.5,0.5\n1.png,x,-0.1,0.2\n4.png,x,?,inf\n"
    )
    found = findings_of(path)
    for part in (
        "no number for `a` in row 7",
        "no number for `b` in rows 2, 4",
        "`0 <= a <= 1` must hold, but got 1.5 (rows 4, 6)",
        "`0 <= b <= 1` must hold, but got inf (row 7)",
        "no class in row 5",
        "1.png, x is given 2 times (rows 2, 6)",
    ):
        assert any(part in line for line in found), (part, found)
    assert len(found) == 6


def test_missing_columns_name_the_nearest_beside_bad_scores(tmp_path: Path) -> None:
    path = write(tmp_path, "file,class,who,a,dice_box\n1.png,x,p,0.5,7\n")
    assert "did you mean `dice_box`?" in findings_of(path, "a", "dice_bx")[0]
    missing_patient, bad_score = findings_of(path, "a", "dice_box", "whom")
    assert "did you mean `who`?" in missing_patient
    assert "but got 7" in bad_score


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("file,class,a,b\n", "holds no scores"),
        ("file,class,a,b\n1.png,x,0.5\n", "the header has 4 columns, but not row 2"),
        ("file,class,a,b,b\n1.png,x,0.5,0.1,0.2\n", "column `b` stands twice"),
        ("file;class;a;b\n1.png;x;0.5;0.1\n", "no column `file`"),
    ],
)
def test_unusable_tables(tmp_path: Path, text: str, part: str) -> None:
    assert any(part in line for line in findings_of(write(tmp_path, text)))


def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=["file,class,a,b\n1.png,x,0.5,0.4\n"])
    writer.start()
    assert read_scores(path, "a", "b").candidate.tolist() == [0.5]
    writer.join()


@pytest.mark.parametrize("name", ["/", ".", "..", "a/.."])
def test_names_of_images_that_are_folders_stand_for_a_patient_each(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"file,class,a,b\n{name},x,0.5,0.4\n1.png,x,0.5,0.4\n")
    assert len(set(read_scores(path, "a", "b").patient)) == 2


def test_one_column_for_both_is_one_finding(tmp_path: Path) -> None:
    path = write(tmp_path, "file,class,a\n1.png,x,0.5\n")
    assert len(findings_of(path, "a", "a")) == 1
