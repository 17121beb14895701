"""The bars as runs of a search, against a real sqlite store."""

from __future__ import annotations

from search.tracking.bar_runs import log_recorded_bar, log_zeroshot_bar
from search.tracking.tracker import Tracker

ZEROSHOT = {"val_dice": 0.5, "val_iou": 0.4, "val_dice/tumor": 0.6}


def test_bars_are_logged_once_and_as_lines(tracker: Tracker) -> None:
    parent = tracker.start_search("s")
    for _ in range(2):
        recorded = log_recorded_bar(tracker, parent, max_epochs=8)
        zeroshot = log_zeroshot_bar(tracker, parent, ZEROSHOT, {"protocol": "recorded"}, max_epochs=8)
    assert len(tracker.find_runs({})) == 3
    run = tracker.client.get_run(recorded)
    assert run.data.metrics == {"test_dice": 0.517, "test_iou": 0.374, "bar_recorded": 0.517}
    expected = {"dataset": "BCSS", "protocol": "recorded", "split": "test", "run_kind": "recorded"}
    assert expected.items() <= run.data.tags.items()
    history = tracker.client.get_metric_history(zeroshot, "val_dice")
    assert [(point.step, point.value) for point in history] == [(0, 0.5), (8, 0.5)]
    assert tracker.client.get_run(zeroshot).info.status == "FINISHED"
