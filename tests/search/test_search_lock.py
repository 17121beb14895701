"""A search's folder is worked in by one process at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.search_lock import hold_search

HOLD = """
import sys, time
from pathlib import Path
from search.search_lock import hold_search
with hold_search(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_one_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None and owner.stdout.readline() == "held\n"
            with pytest.raises(ConfigError, match=f"is being run by process {owner.pid} on "):
                with hold_search(tmp_path):
                    pass
        finally:
            owner.send_signal(signal.SIGKILL)
    with hold_search(tmp_path):
        pass
    with hold_search(tmp_path):
        pass
