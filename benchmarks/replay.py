"""Replays rules of a search on a table of real learning curves, in virtual time, and compares what they find.

python -m benchmarks.replay --curves benchmarks/curves/demo.jsonl.gz --space lora.yaml --out runs/replay \\
    --rule 'late={scheduler: {kind: asha, grace_period: 3}, sampler: {kind: random}}'

The searchers and schedulers are those of a real search. Opponents are replayed beside: everything in full, Ray's
OptunaSearch and ASHA with their defaults, one epoch for all, the starting points alone, and the first default.
Random proposals are rows of the table without replacement; what the table lacks, which samplers propose that learn,
a surrogate answers. Prints tables in Markdown; --out also keeps them, with a plot.
"""

import argparse
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from search.command_line.exit_codes import run_command
from search.command_line.telemetry import silence_telemetry

EVERYTHING = 100_000  # trials: the whole table


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", type=Path, required=True, metavar="FILE", help="table of make_curves")
    parser.add_argument("--space", required=True, help="a space file; its scheduler and sampler are the rule 'space'")
    parser.add_argument(
        "--rule", action="append", default=[], metavar="NAME={...}", help="keys that are laid over the space file"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="replay these rules and opponents only")
    parser.add_argument("--trials", type=int, nargs="+", default=[16, 64], metavar="N", help="default: 16 64")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 8, 64], metavar="N", help="default: 1 2 8 64")
    parser.add_argument("--seeds", type=int, default=50, metavar="N", help="default: 50")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--surrogate-only", action="store_true", help="random proposals are new draws too, not rows")
    scales_help = "scales of the update at which epochs count, in place of the space's"
    parser.add_argument("--scales", type=float, nargs="+", metavar="S", help=scales_help)
    parser.add_argument("--raw", action="store_true", help="Dice of the raw weights where the table has averages too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where replay.md and the plots go")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Replays and prints; returns the exit code."""
    silence_telemetry()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = make_parser().parse_args(argv)
    return run_command(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    from benchmarks.replay_report import write_report

    bench = Bench(given)
    context = multiprocessing.get_context("spawn")
    with _errors_only(), ProcessPoolExecutor(given.workers, context, _start_worker, (given,)) as pool:
        jobs = [
            (name, n_trials, n_slots) for n_trials in given.trials for n_slots in given.slots for name in bench.rules
        ]
        jobs += [(name, EVERYTHING, 1) for name in bench.list_exhaustive()]
        found = dict(zip(jobs, pool.map(_replay, jobs) if given.workers > 1 else map(bench.replay, jobs), strict=True))
    print(write_report(bench, found, given.out))


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Lets the search's own log say errors alone inside the block."""
    log = logging.getLogger("search")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


class Bench:
    """A table, its answers, and the rules that are compared on it."""

    def __init__(self, given: argparse.Namespace) -> None:
        """Reads the table, the space and the rules.

        Raises:
            ConfigError: With what is wrong in them.
        """
        import optuna
        import yaml

        from benchmarks.curve_table import CurveTable, is_scored, read_table
        from benchmarks.known_answers import Answers
        from benchmarks.outcomes import find_goal
        from benchmarks.rules import change_space, list_opponents, make_rule
        from search.errors import ConfigError
        from search.space.config import find_space

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.given, space, table = given, find_space(given.space), read_table(given.curves)
        max_epochs = table.header["max_epochs"]
        asked = {"scales": given.scales} if given.scales else {}
        self.config = change_space(space, "space", asked, max_epochs)
        self.scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        uses_rows = not given.surrogate_only
        self.configs = {"space": self.config}
        for text in given.rule:
            name, _, mapping = text.partition("=")
            if not mapping:
                raise ConfigError.at(f"--rule {text}", "has no '='", "write NAME={scheduler: {kind: asha}}")
            keys = yaml.safe_load(mapping)
            self.configs[name] = change_space(space, name, asked | keys if isinstance(keys, dict) else keys, max_epochs)
        self._check_scales()
        # All rules have the same rows, each at its own scales.
        all_scales = {one.scales for one in self.configs.values()}
        every = sorted({scale for scales in all_scales for scale in scales})
        rows = {key: row for key, row in table.rows.items() if is_scored(row, every)}
        self.n_left_out = len(table.rows) - len(rows)
        if all(row.failure for row in rows.values()):
            what = f"has no row that was scored at all of the scales {', '.join(f'{scale:g}' for scale in every)}"
            raise ConfigError.at(given.curves, what, "make rows with a space of these scales, or add --scales 1")
        table = CurveTable(table.header, rows)
        self.answers_at = {
            scales: Answers(table, dataclasses.replace(self.config, scales=scales), given.raw) for scales in all_scales
        }
        self.answers, self.metric = self.answers_at[self.config.scales], self.config.objective.metric
        self.goal = find_goal(self.answers, self.metric)
        self.rules = list_opponents(space, self.config, self.scratch, uses_rows)
        self.rules |= {name: make_rule(one, self.scratch, uses_rows) for name, one in self.configs.items()}
        if given.only:
            self.rules = {name: rule for name, rule in self.rules.items() if name in given.only}

    def _check_scales(self) -> None:
        """Refuses rules of several scales that need more of a row than its Dice at each."""
        from search.errors import ConfigError

        for name, config in self.configs.items():
            reasons = {
                "the scheduler races by pairs": config.scheduler.kind == "racing",
                f"the objective is {config.objective.metric}": config.objective.metric != "val_dice",
                "--raw asks for the raw weights": self.given.raw,
            }
            why = " and ".join(reason for reason, holds in reasons.items() if holds)
            if config.scales != (1.0,) and why:
                what = f"has scales {list(config.scales)}, but {why}: a table has these for scale 1 alone"
                raise ConfigError.at(f"rule {name}", what, "write scales: [1.0] into the rule, or add --scales 1")

    def list_exhaustive(self) -> list[str]:
        """Returns the rules that can be given the whole table: those that propose rows."""
        return [name for name in self.rules if name in self.configs and self.configs[name].sampler.kind == "random"]

    def replay(self, job: tuple[str, int, int]) -> Mapping[str, Any]:
        """Replays a rule for every seed; returns its outcomes, and how many of the ten best survived."""
        from benchmarks.outcomes import count_survivors, follow_incumbent
        from benchmarks.rules import Replay

        name, n_trials, n_slots = job
        answers = self.answers_at[self.configs.get(name, self.config).scales]
        runs = [self.rules[name](Replay(answers, n_trials, n_slots, seed)).run() for seed in range(self.given.seeds)]
        survivors = [count_survivors(events, answers, self.goal) for events in runs]
        return {"outcomes": [follow_incumbent(events, self.metric) for events in runs], "survivors": survivors}


_bench: Any = None


def _start_worker(given: argparse.Namespace) -> None:
    global _bench
    silence_telemetry()
    logging.getLogger("search").setLevel(logging.ERROR)
    _bench = Bench(given)


def _replay(job: tuple[str, int, int]) -> Any:
    return _bench.replay(job)


if __name__ == "__main__":
    sys.exit(main())
