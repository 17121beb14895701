"""A search over fine-tunes of SAM2: commands on top, rooms below them; importing it switches usage reports off.

From Python: ``from search import run_search``.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from search.command_line.telemetry import silence_telemetry

if TYPE_CHECKING:
    from search.python_call import SearchOutcome as SearchOutcome
    from search.python_call import run_search as run_search

# `python -m` puts the working directory first on the path: a user's files there must hide no module.
if sys.argv[0] == "-m" and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

silence_telemetry()  # before any module imports ray, mlflow, albumentations or huggingface_hub


def __getattr__(name: str) -> Any:
    """Returns what Python calls; late, as workers and commands import this package too."""
    if name not in ("run_search", "SearchOutcome"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from search import python_call

    return getattr(python_call, name)
