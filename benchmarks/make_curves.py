"""Trains random configurations of a space to their end and writes their learning curves into one file.

python -m benchmarks.make_curves --space lora.yaml --configs 300 --out benchmarks/curves/demo.jsonl.gz

Each is trained as a search would train it, by the same plan, seed and code, in plain processes without Ray, and its
test Dice is measured after every epoch: a table to judge rules by, never a model to choose. Started again, the command
makes what is missing. A configuration follows from the space, the seed and its number alone, so that parts can be made
on several machines (--first) and joined (--join).
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.command_line.exit_codes import run_command
from search.command_line.options import FIELDS, SearchOptions, dash
from search.command_line.telemetry import silence_telemetry

if TYPE_CHECKING:
    from benchmarks.curve_table import CurveRow, CurveTable
    from benchmarks.curve_training import CurveTraining
    from search.plan.search_plan import SearchPlan
    from search.space.config import SearchConfig
    from trainables.context import TrialContext
    from trainables.recipe import Scalar

# Options of a search that decide what is measured.
_PLAN_OPTIONS = (
    "space data split allow_leak model checkpoint pathology_weights protocol max_epochs seed storage"
).split()


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.make_curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in _PLAN_OPTIONS:
        field = FIELDS[name]
        parser.add_argument(dash(name), default=field.default, **field.metadata["argparse"])
    parser.add_argument("--configs", type=int, default=300, metavar="N", help="how many to draw (default: 300)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="number of the first one (default: 0)")
    parser.add_argument("--inside", metavar="SPACE", help="leave out what does not lie in this space")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that train (default: 1)")
    parser.add_argument(
        "--test",
        choices=("all", "best"),
        default="all",
        help="score test after every epoch (default), or where validation Dice is a new best and after the last epoch",
    )
    parser.add_argument("--join", type=Path, nargs="+", default=[], metavar="FILE", help="take these files' rows too")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl.gz", help="the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Makes what is missing of a table; returns the exit code."""
    silence_telemetry()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray gives a trial with one core
    parser = make_parser()
    given = parser.parse_args(argv)
    if not given.space:
        parser.error("--space is needed")
    return run_command(lambda: make_table(given))


def make_table(given: argparse.Namespace) -> None:
    """Trains what the table lacks, and writes it after every configuration.

    Raises:
        ConfigError: If a search could not start, or a file holds curves of another one.
    """
    from benchmarks.curve_table import CurveTable, read_table
    from benchmarks.known_answers import is_inside
    from search.plan.planner import make_plan
    from search.space.config import find_space, load_config

    options = {name: getattr(given, name) for name in _PLAN_OPTIONS}
    plan = make_plan(SearchOptions(**options | {"pathology_weights": tuple(given.pathology_weights)}))
    context = dataclasses.replace(plan.make_context(0), patience=0)  # each on one core, to its end
    table = CurveTable({**describe(plan, context), "test_epochs": given.test})
    for path in [*([given.out] if given.out.exists() else []), *given.join]:
        table.take_rows(read_table(path), path)
    missing = list_missing(table, plan.config, given.seed, given.first, given.configs)
    if given.inside:
        inner = load_config(find_space(given.inside))
        missing = {key: params for key, params in missing.items() if is_inside(params, inner)}
    print(
        *plan.to_lines(), f"curves   {len(table.rows)} in {given.out}, {len(missing)} to be made", sep="\n", flush=True
    )
    table.write(given.out)
    _train_all(table, missing, context, plan.data.split.test, given)


def describe(plan: "SearchPlan", context: "TrialContext") -> dict[str, Any]:
    """Returns the header of a table: what its rows are measurements of, and zero-shot's."""
    from benchmarks.curve_table import shorten
    from search.stages.provenance import describe_environment
    from trainables.evaluation.candidates import score_candidate
    from trainables.files.manifest import hash_file
    from trainables.model.build import MODELS
    from trainables.model.weights import find_weights

    space = plan.config.to_dict()
    val, test = (score_candidate(context, None, names) for names in (context.val, plan.data.split.test))
    zeroshot = {"val": shorten(val.dice), "test": shorten(test.dice)}
    return {
        "space": space,
        "space_hash": hash_space(space),
        "max_epochs": context.max_epochs,
        "seed": context.seed,
        "data": plan.data.regions.name,
        "data_fingerprint": plan.data.store.fingerprint,
        "regions": {part: len(names) for part, names in plan.data.split.parts.items()},
        "protocol": plan.protocol.name,
        "protocol_id": plan.protocol.id,
        "model": plan.model.name,
        "model_hash": hash_file(find_weights(MODELS[context.model], context.checkpoint))[:12],
        "zeroshot": {**zeroshot, "val_pairs": [round(1e4 * pair.dice) for pair in val.pairs]},
        "val_pairs": [[pair.file, pair.class_name] for pair in val.pairs],
        "environment": {key: value for key, value in describe_environment().items() if key != "command"},
    }


def hash_space(space: Mapping[str, Any]) -> str:
    """Returns 12 digits over what decides a row: the ranges, what is fixed, and the epochs."""
    text = json.dumps([space["space"], space["fixed"], space["max_epochs"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def draw_config(config: "SearchConfig", seed: int, key: int | str) -> "dict[str, Scalar]":
    """Returns the configuration of a number, drawn at random, or a starting point's with what it leaves out drawn."""
    import optuna

    from search.space.parameters import list_conditions, sort_parents_first
    from search.study.distributions import suggest_applying, to_distributions
    from search.study.study_file import StudyFile

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    conditions, distributions = list_conditions(config.space), to_distributions(config.space)
    points = {point.name: (number, point) for number, point in enumerate(config.start_from)}
    number = points[key][0] if isinstance(key, str) else key
    sampler = StudyFile(Path(), "", "random", seed).make_sampler(number)
    study = optuna.create_study(sampler=sampler)
    if isinstance(key, str):
        study.enqueue_trial(dict(points[key][1].values))
    trial = study.ask()
    suggest_applying(
        trial, {name: distributions[name] for name in sort_parents_first(config.space, conditions)}, conditions
    )
    return dict(study.get_trials(deepcopy=False)[0].params)


def list_missing(
    table: "CurveTable", config: "SearchConfig", seed: int, first: int, n_configs: int
) -> "dict[int | str, dict[str, Scalar]]":
    """Returns the configurations that a table lacks at one of the space's scales, by key.

    The starting points belong to the first part.
    """
    from benchmarks.curve_table import is_scored

    keys: list[int | str] = [point.name for point in config.start_from] if first == 0 else []
    keys += range(first, first + n_configs)
    done = {key for key, row in table.rows.items() if is_scored(row, config.scales)}
    return {key: draw_config(config, seed, key) for key in keys if key not in done}


def _train_all(
    table: "CurveTable",
    missing: "Mapping[int | str, Mapping[str, Scalar]]",
    context: "TrialContext",
    test: Sequence[str],
    given: argparse.Namespace,
) -> None:
    """Trains configurations, with one worker in this process, and writes the table after each."""
    training = functools.partial(_make_training, context, test, given.test == "all")
    started, rows = time.monotonic(), _train_each(missing, training, given.workers)
    with contextlib.closing(rows):
        for number, (key, row) in enumerate(rows, start=1):
            table.rows[key] = dataclasses.replace(row, key=key, seed=given.seed)
            table.write(given.out)
            left_min = (time.monotonic() - started) / number * (len(missing) - number) / 60
            best = max(filter(math.isfinite, row.metrics["val_dice"]), default=math.nan)
            words = f"{key}: best val Dice {best:.3f}{row.failure and ', ' + row.failure}"
            print(f"{words}; about {left_min:.0f} min left", flush=True)


def _train_each(
    missing: "Mapping[int | str, Mapping[str, Scalar]]", make: "Callable[[], CurveTraining]", n_workers: int
) -> "Generator[tuple[int | str, CurveRow], None, None]":
    """Yields each configuration's row when it is there."""
    if n_workers == 1:
        training = make()
        for key, params in missing.items():
            yield key, training.train(params)
        return
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _start_worker, (make,))
    try:
        futures = {pool.submit(_train, params): key for key, params in missing.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# Of a process that trains.
_worker: Any = None


def _make_training(context: "TrialContext", test: Sequence[str], tests_all: bool) -> "CurveTraining":
    from benchmarks.curve_training import CurveTraining

    return CurveTraining(context, test, tests_all)


def _start_worker(make: "Callable[[], CurveTraining]") -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = make()


def _end_with_parent() -> None:
    """Ends this process when the one that started it has been killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(params: "Mapping[str, Scalar]") -> "CurveRow":
    row: CurveRow = _worker.train(params)
    return row


if __name__ == "__main__":
    sys.exit(main())
