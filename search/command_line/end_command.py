"""A shell command of the user's that is called when a search has ended: ``--on-end``."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.errors import InputError, shorten

LIMIT_S = 60.0  # a batch system that ends a job waits not much longer


@contextmanager
def call_at_end(command: str | None, summary: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Calls a command once the search in a summary's folder has ended within the block; wrong input starts no search.

    What it may want to know is in its environment, never in its text: ``SAM2_SEARCH_STATE`` (finished, failed or
    interrupted), ``_RUN`` (the folder), ``_VERDICT`` and ``_SUMMARY`` (of a finished search), ``_ERROR`` (of a failed
    one). Its output goes to stderr. A command that fails, or takes longer than a minute, is a warning and changes
    nothing.
    """
    if not command:
        yield
        return
    state, reason = "finished", ""
    try:
        yield
    except InputError:
        state = ""
        raise
    except Exception as error:
        state, reason = "failed", shorten(str(error), 2000)
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        state = "interrupted"
        raise
    finally:
        if state:
            facts = {"STATE": state, "RUN": str(summary.parent), "ERROR": reason, **_read_outcome(summary, state)}
            _call(command, {f"SAM2_SEARCH_{name}": value.replace("\0", "") for name, value in facts.items()}, warn)


def _read_outcome(summary: Path, state: str) -> dict[str, str]:
    """Returns verdict and path of the summary; both are empty where the search has not finished."""
    if state != "finished" or not summary.is_file():
        return {"VERDICT": "", "SUMMARY": ""}
    return {"VERDICT": str(json.loads(summary.read_text()).get("verdict", "")), "SUMMARY": str(summary)}


def _call(command: str, facts: dict[str, str], warn: Callable[[str], None]) -> None:
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            stdout=2,  # the last line of stdout is the summary's, with --json
            start_new_session=True,
        )
    except OSError as error:
        warn(f"warning: the command of --on-end cannot be started: {error}")
        return
    try:
        if code := process.wait(LIMIT_S):
            warn(f"warning: the command of --on-end ended with exit code {code}")
    except subprocess.TimeoutExpired:
        warn(f"warning: the command of --on-end took more than {LIMIT_S:.0f} s and was stopped")
    finally:
        if process.poll() is None:  # also at a second Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
