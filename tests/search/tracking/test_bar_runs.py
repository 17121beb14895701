"""The bars as runs of a search, against a real sqlite store."""

from pathlib import Path

from search.tracking.bar_runs import RecordedBar, ZeroshotBar
from search.tracking.tracker import Tracker
from search.tracking.trial_runs import SearchRuns

ZEROSHOT = {"val_dice": 0.5, "val_iou": 0.4, "val_dice/tumor": 0.6}


def test_bars_are_logged_once_and_as_lines(tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.start_run("s", "search")
    runs = SearchRuns(tracker, parent, tmp_path)
    for _ in range(2):
        RecordedBar(max_epochs=8).deliver(runs, 0)
        ZeroshotBar(ZEROSHOT, {"protocol": "recorded"}, max_epochs=8).deliver(runs, 0)
    assert len(tracker.find_runs({})) == 3
    recorded, zeroshot = (str(tracker.find_child(parent, {"run_kind": kind})) for kind in ("recorded", "zeroshot"))
    run = tracker.client.get_run(recorded)
    assert run.data.metrics == {"test_dice": 0.517, "test_iou": 0.374, "bar_recorded": 0.517}
    expected = {"dataset": "BCSS", "protocol": "recorded", "split": "test", "run_kind": "recorded"}
    assert expected.items() <= run.data.tags.items()
    history = tracker.client.get_metric_history(zeroshot, "val_dice")
    assert [(point.step, point.value) for point in history] == [(0, 0.5), (8, 0.5)]
    assert tracker.client.get_run(zeroshot).info.status == "FINISHED"
