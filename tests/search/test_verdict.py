"""The verdict on recorded scores, its input checks and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.errors import ConfigError
from search.verdict import judge, main, pair_scores, read_scores

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded" / "zeroshot_per_image.csv"
needs_recorded = pytest.mark.skipif(
    not RECORDED.exists(), reason="needs ../shared/data/recorded/zeroshot_per_image.csv"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def findings_of(
    path: Path, candidate: str = "a", baseline: str = "b", patient: str | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_scores(path, candidate, baseline, patient)
    return [str(finding) for finding in caught.value.findings]


@needs_recorded
@pytest.mark.parametrize(
    ("candidate", "baseline", "word", "mean_difference"),
    [
        ("dice_box_neg", "dice_box", "undecided", 0.0068),
        ("dice_box", "dice_centroid", "beaten", 0.2212),
        ("dice_centroid", "dice_box", "not beaten", -0.2212),
    ],
)
def test_recorded_protocols(candidate: str, baseline: str, word: str, mean_difference: float) -> None:
    # means recomputed from the file with plain arithmetic, four digits
    verdict = judge(read_scores(RECORDED, candidate, baseline))
    assert verdict.word == word
    assert verdict.overall.mean_difference == pytest.approx(mean_difference, abs=5e-5)
    assert verdict.overall.interval is not None
    assert (verdict.overall.interval.low <= 0 <= verdict.overall.interval.high) == (word == "undecided")
    assert (verdict.overall.n_pairs, verdict.overall.n_patients) == (180, 45)
    assert sum(one.comparison.n_pairs for one in verdict.per_class.values()) == 180
    assert all(one.p_value_holm >= one.comparison.p_value for one in verdict.per_class.values())
    assert not verdict.notes


@needs_recorded
def test_same_seed_gives_the_same_verdict() -> None:
    scores = read_scores(RECORDED, "dice_box_neg", "dice_box")
    assert judge(scores, seed=3) == judge(scores, seed=3)


@needs_recorded
def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--scores", str(RECORDED), "--candidate", "dice_box", "--baseline", "dice_centroid"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["word"] == "beaten"
    assert set(printed["per_class"]) == {"tumor", "stroma", "lymphocyte", "necrosis", "blood_vessel"}
    assert main(arguments) == 0
    assert "dice_box against dice_centroid: beaten" in capsys.readouterr().out


def test_same_patient_on_two_slides_counts_once() -> None:
    files = ["TCGA-A1-A0SK-DX1_x.png", "tcga-a1-a0sk-DX2_y.png", "images/TCGA-A1-A0SL-DX1.png"]
    scores = pair_scores(files, ["tumor"] * 3, [0.5] * 3, [0.4] * 3)
    assert scores.patient.tolist() == ["TCGA-A1-A0SK", "TCGA-A1-A0SK", "TCGA-A1-A0SL"]
    assert not scores.notes


def test_other_file_names_are_their_own_patient_and_that_is_said() -> None:
    scores = pair_scores(["a/1.png", "b/1.png", "a/1.png"], ["x", "x", "y"], [0.5] * 3, [0.4] * 3)
    assert scores.patient.tolist() == ["a/1", "b/1", "a/1"]
    assert "2 file names are not a TCGA barcode" in judge(scores).to_text()


def test_patient_column_wins_over_the_file_name(tmp_path: Path) -> None:
    path = write(
        tmp_path, "file,class,who,a,b\nTCGA-A1-A0SK-1.png,x,p,0.1,0.2\nTCGA-A1-A0SL-1.png,x,p,0.3,0.2\n"
    )
    scores = read_scores(path, "a", "b", "who")
    assert scores.patient.tolist() == ["p", "p"]
    verdict = judge(scores)
    assert verdict.word == "undecided"
    assert "1 patient is too few" in verdict.to_text()
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("n_patients", "word"), [(5, "undecided"), (6, "beaten")])
def test_few_patients(n_patients: int, word: str) -> None:
    files = [f"{i}.png" for i in range(n_patients)]
    candidate = np.linspace(0.7, 0.8, n_patients)
    verdict = judge(pair_scores(files, ["tumor"] * n_patients, candidate, np.full(n_patients, 0.4)))
    assert verdict.word == word
    assert not verdict.per_class
    assert "Holm" not in verdict.to_text()


@pytest.mark.filterwarnings("error")
def test_identical_models_are_not_beaten() -> None:
    files, classes = [f"{i // 2}.png" for i in range(20)], ["x", "y"] * 10
    verdict = judge(pair_scores(files, classes, np.full(20, 0.5), np.full(20, 0.5)))
    assert verdict.word == "not beaten"
    assert verdict.overall.ties == 20
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_every_bad_row_is_found_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "file,class,a,b\n1.png,x,0.5,\n\n2.png,x,1.5,nan\n3.png,,0.5,0.5\n1.png,x,-0.1,0.2\n4.png,x,?,inf\n",
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


def test_one_column_for_both_is_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, "file,class,a\n1.png,x,0.5\n")
    assert len(findings_of(path, "a", "a")) == 1


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, float("nan")])
def test_confidence_outside_its_range(confidence: float) -> None:
    with pytest.raises(ConfigError, match="0 < confidence < 1"):
        judge(pair_scores(["1.png"], ["x"], [0.5], [0.4]), confidence=confidence)


def test_columns_of_different_length() -> None:
    with pytest.raises(ConfigError, match="differ in length"):
        pair_scores(["1.png", "2.png"], ["x", "x"], [0.5], [0.4, 0.3])


def test_command_refuses_bad_input_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scores", str(tmp_path / "no.csv"), "--candidate", "a", "--baseline", "b"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert main(["--scores", str(tmp_path / "binary.csv"), "--candidate", "a", "--baseline", "b"]) == 2


def test_command_starts_without_the_heavy_stack() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "statsmodels")
    code = f"import sys, search.verdict; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
