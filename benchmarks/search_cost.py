"""How many epochs a search costs: the scheduler of a space in virtual time, on curves that are drawn.

python -m benchmarks.search_cost --space lora.yaml --trials 64 --epochs 20

Each configuration has a true value; an epoch shows it with noise, so that one epoch's ranking correlates with the
truth as ``--correlation`` says. Epochs take 1 to 1.1. Prints a table for 1, 2 and 8 trials at once.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.rules import ListedSearcher
from benchmarks.virtual_tune import VirtualTune
from search.space.config import SearchConfig, find_space, load_config
from search.space.starting_points import StartingPoint
from search.tuning.scheduler import make_scheduler

SLOTS, N_SEEDS = (1, 2, 8), 100


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="lora.yaml", help="its scheduler is used; default: lora.yaml")
    parser.add_argument("--trials", type=int, default=64, help="default: 64")
    parser.add_argument("--epochs", type=int, default=20, help="of a trial in full; default: 20")
    parser.add_argument(
        "--correlation", type=float, default=0.7, help="of an epoch's Dice with the truth; default: 0.7"
    )
    given = parser.parse_args(argv)
    config = dataclasses.replace(load_config(find_space(given.space)), num_trials=given.trials, max_epochs=given.epochs)
    print("| trials at once | epochs [5 %, 95 % of searches] | of all | time in epochs |\n|---|---|---|---|")
    for n_slots in SLOTS:
        found = np.array([run_search(config, n_slots, given.correlation, seed) for seed in range(N_SEEDS)])
        low, high = np.percentile(found[:, 0], [5, 95])
        share = found[:, 0].mean() / (given.trials * given.epochs)
        print(
            f"| {n_slots} | {found[:, 0].mean():.0f} [{low:.0f}, {high:.0f}] | {share:.0%} | {found[:, 1].mean():.0f} |"
        )
    return 0


def run_search(config: SearchConfig, n_slots: int, correlation: float, seed: int) -> tuple[int, float]:
    """Returns how many epochs all trials of a search took together, and when the last one ended."""
    rng, noise = np.random.default_rng(seed), math.sqrt(1 - correlation**2)
    dice = correlation * rng.normal(size=(config.num_trials, 1))
    dice = dice + noise * rng.normal(size=(config.num_trials, config.max_epochs))
    curves = [
        tuple(
            {
                config.objective.metric: value,
                "training_iteration": epoch,
                "done": epoch == config.max_epochs,
                "time_this_iter_s": rng.uniform(1, 1.1),
            }
            for epoch, value in enumerate(row, start=1)
        )
        for row in dice
    ]
    searcher = ListedSearcher([StartingPoint(str(number), {"number": number}) for number in range(len(curves))])
    scheduler = make_scheduler(config.scheduler, config.max_epochs, config.objective.metric, n_slots)
    events = VirtualTune(searcher, scheduler, lambda params: curves[params["number"]], len(curves), n_slots).run()
    return len(events), events[-1].time_s


if __name__ == "__main__":
    sys.exit(main())
