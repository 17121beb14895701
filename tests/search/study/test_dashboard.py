"""optuna-dashboard on a search's journal, as docs/how-to.md starts it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from search.study.study_file import StudyFile


@pytest.fixture
def address(journal: Path) -> Any:
    """The address of a dashboard on the journal."""
    pytest.importorskip("optuna_dashboard", reason="needs the package optuna-dashboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = "import sys; from importlib.metadata import entry_points as find\n"
    call += "sys.exit(find(group='console_scripts', name='optuna-dashboard')['optuna-dashboard'].load()())"
    server = subprocess.Popen([sys.executable, "-c", call, str(journal), "--host", "127.0.0.1", "--port", str(port)])
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(timeout=30)


def ask(url: str, limit_s: float = 120) -> Any:
    """Returns the JSON of an answer, as soon as there is one."""
    end = time.monotonic() + limit_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.mark.slow
def test_it_shows_the_trials_of_a_journal_that_goes_on(journal: Path, address: str) -> None:
    (found,) = ask(f"{address}/api/studies")["study_summaries"]
    assert found["study_name"] == "s"
    StudyFile(journal, "s").open().enqueue_trial({"x": 0.25})
    trials = ask(f"{address}/api/studies/{found['study_id']}?after=0")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete"] * 3 + ["Waiting"]
    assert [trial["values"][0] for trial in trials[:3]] == [0.5] * 3
