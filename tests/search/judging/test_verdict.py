"""The verdict on recorded scores, and its command."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.judging.paired_scores import PairedScores, pair_scores, read_scores
from search.judging.verdict import judge
from search.verdict import main


def pair(files: list[str], a: Any, b: Any, **columns: Any) -> PairedScores:
    return pair_scores(pd.DataFrame({"file": files, "class": "x", **columns, "a": a, "b": b}), "a", "b")


@pytest.mark.parametrize(
    ("candidate", "baseline", "word", "mean_difference"),
    [
        ("dice_box_neg", "dice_box", "undecided", 0.0068),
        ("dice_box", "dice_centroid", "beaten", 0.2212),
        ("dice_centroid", "dice_box", "not beaten", -0.2212),
    ],
)
def test_recorded_protocols(
    recorded_scores: Path, candidate: str, baseline: str, word: str, mean_difference: float
) -> None:
    # means recomputed from the file with plain arithmetic, four digits
    verdict = judge(read_scores(recorded_scores, candidate, baseline))
    assert verdict.word == word
    assert verdict.overall.mean_difference == pytest.approx(mean_difference, abs=5e-5)
    assert verdict.overall.interval is not None
    assert (verdict.overall.interval.low <= 0 <= verdict.overall.interval.high) == (word == "undecided")
    assert (verdict.overall.n_pairs, verdict.overall.n_patients) == (180, 45)
    assert sum(one.comparison.n_pairs for one in verdict.per_class.values()) == 180
    assert all(one.p_value_holm >= one.comparison.p_value for one in verdict.per_class.values())
    assert not verdict.notes


def test_the_same_scores_give_the_same_verdict(recorded_scores: Path) -> None:
    scores = read_scores(recorded_scores, "dice_box_neg", "dice_box")
    assert judge(scores) == judge(scores)


def test_command_prints_json(recorded_scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--scores", str(recorded_scores), "--candidate", "dice_box", "--baseline", "dice_centroid"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["word"] == "beaten"
    assert set(printed["per_class"]) == {"tumor", "stroma", "lymphocyte", "necrosis", "blood_vessel"}
    assert main(arguments) == 0
    assert "dice_box against dice_centroid: beaten" in capsys.readouterr().out


def test_notes_on_the_input_are_printed() -> None:
    assert "note: 2 file names hold no TCGA barcode" in judge(pair(["a/1.png", "b/1.png"], 0.5, 0.4)).to_text()


def test_one_patient_is_too_few() -> None:
    verdict = judge(pair(["1.png", "2.png"], [0.1, 0.3], 0.2, patient="p"))
    assert verdict.word == "undecided"
    assert "1 patient is too few" in verdict.to_text()
    json.dumps(dataclasses.asdict(verdict), allow_nan=False)


@pytest.mark.parametrize(("n_patients", "word"), [(5, "undecided"), (6, "beaten")])
def test_few_patients(n_patients: int, word: str) -> None:
    files = [f"{i}.png" for i in range(n_patients)]
    verdict = judge(pair(files, np.linspace(0.7, 0.8, n_patients), 0.4))
    assert verdict.word == word
    assert not verdict.per_class
    assert "Holm" not in verdict.to_text()


@pytest.mark.filterwarnings("error")
def test_identical_models_are_not_beaten() -> None:
    verdict = judge(pair([f"{i // 2}.png" for i in range(20)], 0.5, 0.5, **{"class": ["x", "y"] * 10}))
    assert verdict.word == "not beaten"
    assert verdict.overall.ties == 20
    json.dumps(dataclasses.asdict(verdict), allow_nan=False)


def test_command_refuses_bad_input_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scores", str(tmp_path / "no.csv"), "--candidate", "a", "--baseline", "b"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert main(["--scores", str(tmp_path / "binary.csv"), "--candidate", "a", "--baseline", "b"]) == 2


def test_command_starts_without_the_heavy_stack() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "statsmodels")
    code = f"import sys, search.verdict; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
