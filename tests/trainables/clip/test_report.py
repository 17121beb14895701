"""The figures of a naming, by hand on a dozen items."""

import csv
import io

import pytest

from trainables.clip.report import EMPTY, NamingReport

CLASSES = ("tumor", "stroma", "necrosis", "vessel")
ACTUAL = ["tumor"] * 5 + ["stroma"] * 4 + ["necrosis"] * 3
CLIP = ["tumor", "tumor", "tumor", "stroma", EMPTY, "stroma", "stroma", "tumor", "vessel", "tumor", "tumor", "tumor"]


@pytest.fixture
def report() -> NamingReport:
    files = tuple(f"r{number}.png" for number in range(12))
    given = {"clip": tuple(CLIP), "probe": tuple(ACTUAL[:4] + [EMPTY] + ACTUAL[5:])}
    return NamingReport("tiny", CLASSES, files, tuple(ACTUAL), given, ("a note",))


def test_accuracy_and_confusion_by_hand_count_empty_masks_as_wrong(report: NamingReport) -> None:
    assert (report.accuracy("clip"), report.accuracy("probe")) == pytest.approx((5 / 12, 11 / 12))
    assert report.n_empty == 1 and report.most_frequent == pytest.approx(5 / 12)
    assert report.confusion("clip").tolist() == [[3, 1, 0, 0, 1], [1, 2, 0, 1, 0], [3, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    perfect = NamingReport("tiny", CLASSES, ("a", "b"), ("tumor", "vessel"), {"clip": ("tumor", "vessel")})
    assert perfect.accuracy("clip") == 1 and perfect.f1_per_class("clip") == {"tumor": 1, "vessel": 1}


def test_f1_by_hand(report: NamingReport) -> None:
    """Tumor: 3 right of 7 named so and of 5 there are, 2 * 3 / (7 + 5); vessel was named but never prompted."""
    assert report.f1_per_class("clip") == pytest.approx({"tumor": 6 / 12, "stroma": 4 / 7, "necrosis": 0, "vessel": 0})
    assert report.f1_per_class("probe") == pytest.approx({"tumor": 8 / 9, "stroma": 1, "necrosis": 1})


def test_flat_figures_are_the_methods_own(report: NamingReport) -> None:
    flat = report.to_flat()
    assert flat["naming_clip_accuracy"] == report.accuracy("clip")
    assert flat["naming_clip_macro_f1"] == pytest.approx((6 / 12 + 4 / 7) / 4)
    assert flat["naming_probe_f1/tumor"] == pytest.approx(8 / 9)
    assert (flat["naming_n_items"], flat["naming_n_empty"]) == (12, 1)
    assert all(isinstance(value, float) for value in flat.values())


def test_csv_reads_back(report: NamingReport) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_confusion_csv("clip"))))
    assert [int(rows[0][name]) for name in [*CLASSES, EMPTY]] == [3, 1, 0, 0, 1]
    assert [row["f1"] for row in rows] == ["0.500000", "0.571429", "0.000000", "0.000000"]
    items = list(csv.DictReader(io.StringIO(report.to_items_csv())))
    assert [row["clip"] for row in items] == CLIP
    assert items[4] == {"file": "r4.png", "class": "tumor", "clip": EMPTY, "probe": EMPTY}


def test_text_holds_figures_notes_and_empty_masks(report: NamingReport) -> None:
    text = report.to_text()
    for part in ("accuracy 0.417", "accuracy 0.917", "most frequent class scores 0.417", "a note", "1 masks are empty"):
        assert part in text
    assert max(map(len, text.splitlines())) < 100
