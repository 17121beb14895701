"""Exit codes and last words of a process that used an object store."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from search.process_end import end_process
{opened}
atexit.register(print, "registered")
sys.stdout.write("last words, ")
end_process({code})
"""


@pytest.mark.parametrize("code", [0, 1, 130])
@pytest.mark.parametrize("opened", ["", "import fsspec.asyn; fsspec.asyn.get_loop()"], ids=["none", "object store"])
def test_code_words_and_what_was_registered(code: int, opened: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(opened=opened, code=code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "last words, registered\n", "")
