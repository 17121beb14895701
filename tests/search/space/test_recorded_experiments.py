"""The recorded figures, against the arithmetic that they have to bear."""

import pytest

from search.space.recorded_experiments import (
    CLASS_NAMES,
    RECORDED_BAR,
    RECORDED_BARS,
    RECORDED_EXPERIMENTS,
    RecordedExperiment,
)

BY_NAME = {experiment.name: experiment for experiment in RECORDED_EXPERIMENTS}


def test_every_row_of_the_log_is_there_once() -> None:
    names = [experiment.name for experiment in RECORDED_EXPERIMENTS]
    rows = {"zeroshot", "v1", "v2", "v3", "path-sam2", "lora-light", "box-focal", "lora-r8", "tta", "prompts"}
    assert set(names) == rows and len(names) == len(rows)


def test_each_protocol_has_one_bar_and_the_first_is_the_zeroshot_row() -> None:
    bars = {bar.protocol: bar.overall_dice for bar in RECORDED_BARS}
    assert bars == {"recorded": 0.517, "centroid": 0.335, "box-neg+tta": 0.566}
    assert all(bar.compute_gain() == 0 for bar in RECORDED_BARS)
    assert BY_NAME["zeroshot"] is RECORDED_BAR is RECORDED_BARS[0]
    # IoU = Dice / (2 - Dice) is convex, so a mean IoU is never below that of the mean Dice.
    assert RECORDED_BAR.overall_iou == 0.374 >= 0.517 / (2 - 0.517)


@pytest.mark.parametrize("experiment", RECORDED_EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_figures_are_possible(experiment: RecordedExperiment) -> None:
    figures = list(experiment.per_class.values())
    assert set(experiment.per_class) in (set(), set(CLASS_NAMES))
    assert experiment.protocol in ("recorded", "centroid", "unknown")
    if experiment.overall_dice is not None:
        assert 0 <= experiment.overall_dice <= 1
        # A mean over pairs is a weighted mean of the class means.
        assert not figures or min(figures) <= experiment.overall_dice <= max(figures)


@pytest.mark.parametrize(
    ("name", "gain"), [("zeroshot", 0.0), ("lora-light", 0.02), ("box-focal", 0.037), ("v2", None), ("tta", None)]
)
def test_gain_is_reported_only_under_one_protocol(name: str, gain: float | None) -> None:
    assert BY_NAME[name].compute_gain() == (None if gain is None else pytest.approx(gain, abs=1e-9))
