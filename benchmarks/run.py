"""Prints the figures of docs/performance.md that a CPU gives: each pair in one run, as a ratio with its spread.

python -m benchmarks.run

Takes about a quarter of an hour on two free cores, and needs nothing that the project does not install.
"""

import importlib
import sys

PARTS = {
    "loading": "augmentation, and an epoch against the bare loop",
    "evaluation": "evaluation: a loop over the stock predictor / ours",
    "prefix": "frozen blocks that are read rather than computed",
    "trial_start": "a trial's start",
    "driver": "the driver's time for a result",
}


def main() -> int:
    """Runs every part; returns 0."""
    for name, what in PARTS.items():
        print(f"\n{what} (benchmarks.{name})", flush=True)
        importlib.import_module(f"benchmarks.{name}").main([])
    return 0


if __name__ == "__main__":
    sys.exit(main())
