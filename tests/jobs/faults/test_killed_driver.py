"""A search that is killed, interrupted or out of disk, and goes on, ends as one that nobody disturbed, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from searches import (
    DATA,
    LIMIT_S,
    SMALL,
    SearchProcess,
    count_rows,
    describe_search,
    fill,
    read_screen,
    start_search,
    wait_for_rows,
)

pytestmark = pytest.mark.slow

N_KILLS = 10


def test_ten_kills_leave_no_trace(undisturbed: Path, work_folder: Path) -> None:
    draw, n_rows = random.Random(5), count_rows(undisturbed / "runs" / "job")
    # The machine's own speed sets it, so that a fast search does not end between two kills.
    longest_s = json.loads((undisturbed / "runs" / "job" / "summary.json").read_text())["wall_seconds"] / 4
    process = start_search(work_folder, *SMALL, "--name", "job")
    kills = 0
    # Before its record is written, a search has done nothing that could be resumed; next it opens its parent run.
    while not (work_folder / "runs" / "job" / "search.json").is_file():
        assert process.poll() is None, read_screen(work_folder)
        time.sleep(0.01)
    for index in range(N_KILLS):
        # Some moments are drawn from the stages around the trials, others from an epoch's end.
        if index == 0:
            time.sleep(draw.uniform(0, 0.1))
        elif index % 2:
            wait_for_rows(work_folder, process, min(count_rows(work_folder / "runs" / "job") + 1, n_rows))
            time.sleep(draw.uniform(0, 0.5))
        else:
            time.sleep(draw.uniform(0, longest_s))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        process = start_search(work_folder, "--resume", "last")
    assert process.wait() == 0, read_screen(work_folder)
    assert kills == N_KILLS, f"only {kills} kills met a running search: draw shorter waits"
    expected, found = describe_search(undisturbed, "job"), describe_search(work_folder, "job")
    for part, value in expected.items():
        assert found[part] == value, part


def wait_for_last_checkpoint(folder: Path, process: SearchProcess) -> None:
    """Waits until the checkpoint of a trial's last epoch is being written: its end comes next, in the study."""
    end = time.monotonic() + LIMIT_S
    while not list_last_checkpoints(folder / "runs" / "job" / "trials"):
        assert process.poll() is None and time.monotonic() < end, read_screen(folder)
        time.sleep(0.002)


def list_last_checkpoints(trials: Path) -> list[Path]:
    reports = [(path.parent, path.read_text().splitlines()) for path in trials.glob("*/result.json")]
    ended = [(trial, lines) for trial, lines in reports if lines and '"done": true' in lines[-1]]
    places = [trial / f"checkpoint_{len(lines) - 1:06d}" for trial, lines in ended]
    return [place for place in places if place.is_dir()]


def test_a_stopped_search_says_how_to_go_on_and_takes_more_trials(
    undisturbed: Path, work_folder: Path, limited_disk: Path | None
) -> None:
    """Ctrl-C after an epoch, a time limit at a trial's end, a disk that fills up, all in one search."""
    process = start_search(work_folder, *SMALL, "--name", "job")
    wait_for_rows(work_folder, process, 1)
    interrupt(work_folder, process, signal.SIGINT)
    process = start_search(work_folder, "--resume", "job")
    wait_for_last_checkpoint(work_folder, process)
    interrupt(work_folder, process, signal.SIGTERM)
    process = start_search(work_folder, "--resume", "job")
    if limited_disk is not None:
        wait_for_rows(work_folder, process, count_rows(work_folder / "runs" / "job") + 1)
        run_out_of_disk(work_folder, process, limited_disk)
        process = start_search(work_folder, "--resume", "job")
    assert process.wait() == 0, read_screen(work_folder)
    assert describe_search(work_folder, "job") == describe_search(undisturbed, "job")
    add_a_trial(work_folder)
    start_from_what_it_found(work_folder)


def interrupt(folder: Path, process: SearchProcess, number: signal.Signals) -> None:
    before = len(read_screen(folder))
    process.send_signal(number)
    assert process.wait() == 130, read_screen(folder)
    screen = read_screen(folder)[before:]
    assert f"python -m search.run --resume {folder / 'runs' / 'job'}" in screen
    assert "Traceback" not in screen


def run_out_of_disk(folder: Path, process: SearchProcess, disk: Path) -> None:
    before = len(read_screen(folder))
    filler = fill(disk)
    assert process.wait() == 1, read_screen(folder)
    screen = read_screen(folder)[before:]
    assert "No space left on device" in screen and "make room" in screen and str(disk / "job") in screen
    assert screen.count("error:") == 1
    assert "Traceback" not in screen
    filler.unlink()


def add_a_trial(folder: Path) -> None:
    """Adds a trial to a search that has ended: it joins the others, and what is done again is marked."""
    before = describe_search(folder, "job")
    assert start_search(folder, "--resume", "job", "--num-trials", "4").wait() == 0, read_screen(folder)
    after = describe_search(folder, "job")
    assert set(after["params"]) == {0, 1, 2, 3}
    for number in before["params"]:
        for what in ("states", "params", "curves", "histories"):
            assert after[what][number] == before[what][number]
    kinds = {kind: after["kinds"][kind] - count for kind, count in before["kinds"].items()}
    assert kinds.pop("trial") == 1
    assert kinds.pop("confirmation") in (0, 1)  # 1 where the new trial is the best one
    assert set(kinds.values()) == {0}
    assert after["parent"] == "FINISHED" and set(after["statuses"]) == {"FINISHED"}
    names = [name.removeprefix("winner · ") for name in after["pages"]["names"]]
    assert set(names) > {name.removeprefix("winner · ") for name in before["pages"]["names"]}
    assert sum(name.startswith("winner · ") for name in after["pages"]["names"]) == len(after["pages"]["views"]) == 1
    run = folder / "runs" / "job"
    assert (run / "export" / "sam2.pt").is_file() and (run / "export-1" / "sam2.pt").is_file()
    caveats = json.loads((run / "summary.json").read_text())["caveats"]
    is_same = after["outcome"] == before["outcome"]  # then nothing new was looked at
    assert after["openings"] == (1 if is_same else 2)
    assert any("opened 2 times" in caveat for caveat in caveats) is not is_same


def start_from_what_it_found(folder: Path) -> None:
    """A search that starts warm has a run, a view and names of its own; those of the earlier one stay."""
    before = describe_search(folder, "job")["pages"]
    arguments = ("--num-trials", "1", "--max-epochs", "1", "--confirm", "0", "--warm-start", "job", "--name", "next")
    assert start_search(folder, *DATA, *arguments).wait() == 0, read_screen(folder)
    pages = describe_search(folder, "next")["pages"]
    names = [name.partition(" · r")[0] for name in pages["names"]]
    assert names == ["next", "recorded-zeroshot", "winner · trial 00", "zeroshot"]
    assert len(pages["views"]) == pages["versions"] == 1
    assert describe_search(folder, "job")["pages"] == before
