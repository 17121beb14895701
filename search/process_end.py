"""How a process that used an object store ends."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Ends the process with an exit code.

    Where an object store was used, an upload of Tune's may still wait, in a thread, for a server that is gone; the
    interpreter's own end crashes there (seen in Python 3.11: ``PyGILState_Release``, exit code 134). So what is
    registered for the end is done, and the process ends without it.
    """
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is None or asyn.iothread[0] is None:  # its thread lives once a file system of that kind was opened
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
