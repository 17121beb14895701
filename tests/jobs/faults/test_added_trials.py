"""A search done twice is the same; trials added to one that has ended join it, and what is done again is marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from searches import LIMIT_S, SMALL, describe_search, read_screen, start_search

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def again(make_work_folder: Callable[[str], Path]) -> Path:
    """A folder with the search that nobody disturbed, done a second time; the last test adds to it."""
    folder = make_work_folder("again")
    assert start_search(folder, *SMALL, "--name", "job").wait(LIMIT_S) == 0, read_screen(folder)
    return folder


def test_the_same_seed_gives_the_same_search(undisturbed: Path, again: Path) -> None:
    assert describe_search(again, "job") == describe_search(undisturbed, "job")


def test_trials_added_to_a_finished_search_join_it(again: Path) -> None:
    before = describe_search(again, "job")
    assert start_search(again, "--resume", "job", "--num-trials", "4").wait(LIMIT_S) == 0, read_screen(again)
    after = describe_search(again, "job")
    assert set(after["params"]) == {0, 1, 2, 3}
    for number in before["params"]:
        for what in ("states", "params", "curves", "histories"):
            assert after[what][number] == before[what][number]
    kinds = {kind: after["kinds"][kind] - count for kind, count in before["kinds"].items()}
    assert kinds.pop("trial") == 1
    assert kinds.pop("confirmation") in (0, 1)  # 1 where the new trial is the best one
    assert set(kinds.values()) == {0}
    assert after["parent"] == "FINISHED" and set(after["statuses"]) == {"FINISHED"}
    run = again / "runs" / "job"
    assert (run / "export" / "sam2.pt").is_file() and (run / "export-1" / "sam2.pt").is_file()
    caveats = json.loads((run / "summary.json").read_text())["caveats"]
    is_same = after["outcome"] == before["outcome"]  # then nothing new was looked at
    assert after["openings"] == (1 if is_same else 2)
    assert any("opened 2 times" in caveat for caveat in caveats) is not is_same
