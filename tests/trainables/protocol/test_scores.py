import dataclasses

import pytest

from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS

BOX = PROTOCOLS["box"]


def to_pair(file: str, class_name: str, shared: int, predicted: int, actual: int) -> PairScore:
    return PairScore(file, class_name, "patient", Overlap(shared, predicted, actual), 1.0, 0.5)


PAIRS = (
    to_pair("a", "tumor", 100, 100, 100),  # Dice 1, IoU 1
    to_pair("b", "tumor", 0, 10, 10),  # Dice 0, IoU 0
    to_pair("a", "stroma", 10, 20, 20),  # Dice 1/2, IoU 1/3
    to_pair("b", "vessel", 5, 5, 15),  # Dice 1/2, IoU 1/3
)


@pytest.mark.parametrize(
    ("averaging", "dice", "iou"),
    [
        ("pairs", (1 + 0 + 1 / 2 + 1 / 2) / 4, (1 + 0 + 1 / 3 + 1 / 3) / 4),
        ("classes", (1 / 2 + 1 / 2 + 1 / 2) / 3, (1 / 2 + 1 / 3 + 1 / 3) / 3),
        ("pixels", (200 / 220 + 1 / 2 + 1 / 2) / 3, (100 / 120 + 1 / 3 + 1 / 3) / 3),
    ],
)
def test_scores_are_averaged_as_the_protocol_says(averaging: str, dice: float, iou: float) -> None:
    scores = Scores(dataclasses.replace(BOX, averaging=averaging), PAIRS)
    assert (scores.dice, scores.iou) == pytest.approx((dice, iou))
    assert scores.per_class() == {"tumor": 0.5, "stroma": 0.5, "vessel": 0.5}
    assert (scores.ceiling, scores.floor) == (1.0, 0.5)


def test_scores_flatten_for_logs() -> None:
    flat = Scores(BOX, PAIRS).to_flat()
    assert set(flat) == {"dice", "iou"} | {
        f"{metric}/{name}" for metric in ("dice", "iou") for name in ("tumor", "stroma", "vessel")
    }
    assert flat["iou/stroma"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("n_background", "expected"), [((90, 40), 1 - 130 / 200), ((100, 100), 0.0), ((0, 0), 1.0)])
def test_false_positives_are_what_gets_a_class_in_regions_without_any(
    n_background: tuple[int, int], expected: float
) -> None:
    normal = [
        pair
        for file, shared in zip("bc", n_background, strict=True)
        for pair in (to_pair(file, "tumor", 0, 100 - shared, 0), to_pair(file, "background", shared, shared, 100))
    ]
    tumor = [to_pair("a", "tumor", 10, 60, 50), to_pair("a", "background", 5, 40, 50)]
    scores = Scores(PROTOCOLS["auto"], (*tumor, *normal))
    assert scores.false_positives == scores.to_flat()["false_positives"] == pytest.approx(expected)
    assert scores.per_class()["tumor"] == pytest.approx(20 / (110 + 200 - sum(n_background)))
    assert Scores(PROTOCOLS["auto"], tuple(tumor)).false_positives is None
    assert "false_positives" not in Scores(BOX, PAIRS).to_flat()
