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
