"""A search from Python, in a script or a notebook: :func:`run_search` takes the options of the command line."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

from search.command_line.options import FIELDS, SearchOptions, compose_words, make_parser, parse_options
from search.command_line.paths import locate_storage
from search.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from search.reporting.data import TrialReport
    from search.run_folder.protocol_table import ProtocolTable
    from search.run_folder.summary import Summary

_NOT_HERE = ("dry_run", "json")  # they are about the screen


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found.

    Attributes:
        folder: Of everything that it wrote.
        summary: What ``summary.json`` holds, as attributes (``summary.test.verdict``); of a search that trains nothing
            the table of its protocols.
        report: The HTML page; None if there is none.
        export: The folder of the winner's model files; None for a search that trains nothing.
        trials: One row a trial: ``number``, ``trial_id``, ``state``, ``origin``, ``end``, ``epochs``, ``best_epoch``,
            ``val_dice``, ``val_iou``, the ``objective``, and a column for each searched parameter, NaN where it does
            not apply.
        pairs: One row a (region, class) pair: ``split`` (val or test), ``file``, ``class``, ``patient``, ``protocol``,
            and the Dice of ``zeroshot``, ``floor``, ``ceiling``, on test also of the ``winner``.
    """

    folder: Path
    summary: Summary | ProtocolTable
    report: Path | None
    export: Path | None
    trials: pd.DataFrame
    pairs: pd.DataFrame


P = ParamSpec("P")


def _take_options_of(options: Callable[P, SearchOptions]) -> Callable[[Callable[..., SearchOutcome]], Callable[P, Any]]:
    """Gives a function the signature of the options, and their help as its list of arguments."""

    def decorate(function: Callable[..., SearchOutcome]) -> Callable[P, SearchOutcome]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> SearchOutcome:
            return function(*args, **kwargs)

        given = inspect.signature(options)
        kept = [one for name, one in given.parameters.items() if name not in _NOT_HERE]
        named = [kept[0], *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in kept[1:])]
        call.__signature__ = given.replace(parameters=named, return_annotation=SearchOutcome)  # type: ignore[attr-defined]
        lines = [f"    {one.name}: {FIELDS[one.name].metadata['argparse']['help']}" for one in kept]
        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nArgs:\n" + "\n".join(lines)
        return call

    return decorate


@_take_options_of(SearchOptions)
def run_search(space: str = "", **options: Any) -> SearchOutcome:
    """Runs a search, or goes on with one (``resume="last"``), and returns what it found.

    Arguments have the names and the meaning of the command line's options: ``num_trials=32`` is ``--num-trials 32``.
    What may be repeated is a tuple: ``set=("sampler.kind=gp",)``. In a notebook a line is printed for each trial that
    ends.

    Raises:
        InputError: If the search cannot start, with every finding, before anything has started.
        SearchError: If it fails while it runs.
    """
    from trainables.files.progress import show_progress

    given = _read_arguments({"space": space or None, **options})
    from search.run import search_for

    console = make_console()
    with show_progress():
        summary = search_for(given, console)
    return read_outcome(given, summary)


def read_outcome(options: SearchOptions, summary: Summary | ProtocolTable) -> SearchOutcome:
    """Returns what a search left in its folder; ``resume`` is that folder, or None."""
    from search.reporting.data import read_report
    from search.run_folder.layout import REPORT_FILE
    from search.run_folder.summary import Summary

    folder = Path(options.resume) if options.resume else locate_storage(options.storage) / summary.search_id
    export, report, data = folder / "export", folder / REPORT_FILE, read_report(folder)
    return SearchOutcome(
        folder=folder,
        summary=summary,
        report=report if report.is_file() else None,
        export=export if export.is_dir() else None,
        trials=tabulate_trials(data.trials, data.record.config["space"]),
        pairs=read_pairs(folder, summary.test.opening if isinstance(summary, Summary) else 1),
    )


def tabulate_trials(trials: Iterable[TrialReport], parameters: Iterable[str]) -> pd.DataFrame:
    """Returns a row for each trial of a report, with its searched parameters; see :class:`SearchOutcome`."""
    import pandas as pd

    return pd.DataFrame(
        {
            **{name: getattr(trial, name) for name in ("number", "trial_id", "state", "origin", "end")},
            **{"epochs": len(trial.epochs), "best_epoch": trial.best_epoch, "objective": trial.best},
            **{name: trial.read_best(name) for name in ("val_dice", "val_iou")},
            **{name: trial.params.get(name, math.nan) for name in parameters},
        }
        for trial in trials
    )


def read_pairs(folder: Path, opening: int) -> pd.DataFrame:
    """Returns every (region, class) pair of a search, of test at one opening; see :class:`SearchOutcome`."""
    import pandas as pd

    from search.judging.openings import locate_test_scores

    files = {"val": folder / "scores_val_zeroshot.csv", "test": locate_test_scores(folder, opening)}
    # A class may be called null or NA, and a patient 007.
    texts = dict.fromkeys(("file", "class", "patient", "protocol"), str)
    missing = dict.fromkeys(("winner", "zeroshot", "floor", "ceiling"), "nan")
    tables = [
        pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=missing).assign(split=split)
        for split, path in files.items()
        if path.is_file()
    ]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"split": []})
    return whole[["split", *whole.columns.drop("split")]]


def make_console() -> Console:
    """Returns where the search prints: a live table on a terminal, plain lines in a notebook."""
    from rich.console import Console

    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    if Console().is_jupyter:  # its live display needs widgets
        return Console(force_jupyter=False, force_terminal=False, width=120, **plain)
    return Console(**plain)


def _read_arguments(values: Mapping[str, Any]) -> SearchOptions:
    """Returns the options, checked as the command line checks them, with the folder of a search that goes on.

    Raises:
        ConfigError: With the first argument that is unknown or has a wrong value.
    """
    for name in values:
        if name not in FIELDS or name in _NOT_HERE:
            raise ConfigError.at(name, "is no argument of run_search", "see help(run_search)")
    plain = {name: os.fspath(each) if isinstance(each, os.PathLike) else each for name, each in values.items()}
    parser = make_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    options = parse_options(parser, compose_words(plain))
    if options.resume is None:
        return options
    from search.run_folder.layout import find_run

    # Looked up once: when this search has ended, another one may be the last.
    folder = find_run(locate_storage(options.storage), options.resume, "--resume")
    return dataclasses.replace(options, resume=str(folder))


def _refuse(message: str) -> NoReturn:
    where, _, what = message.removeprefix("argument ").partition(": ")
    raise ConfigError.at(where if what else "run_search", what or message, "see help(run_search)")
