"""The Optuna study of a search: a journal file that survives a kill, and the sampler that proposes trials."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection

from search.errors import SearchError
from search.objective import Mode
from trainables.damage import CONTENT_ERRORS
from trainables.whole_file import write_whole

SamplerKind = Literal["tpe", "random"]

STALE_LOCK_S = 60.0
_FIRST_BYTES = b'{"op_code"'

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyFile:
    """Where a study lives and how it samples: all that another process needs to go on with it.

    Attributes:
        journal: Journal file of Optuna, made if missing; an absolute path, as Ray changes directories.
        name: Name of the study inside the journal.
        sampler: ``tpe`` or ``random``.
        seed: Seed of the whole search, at least 0.
        startup_trials: Finished trials (stopped ones too) before TPE takes over from random sampling.
        modes: Whether a larger (``max``) or a smaller (``min``) value is better, one an objective.
    """

    journal: Path
    name: str
    sampler: SamplerKind = "tpe"
    seed: int = 0
    startup_trials: int = 10
    modes: tuple[Mode, ...] = ("max",)

    def open(self) -> optuna.Study:
        """Opens the study, or makes it; see ``open_study``."""
        return open_study(self.journal, self.name, self.make_sampler(0), self.modes)

    def make_sampler(self, trial_number: int, conditional: bool = False) -> optuna.samplers.BaseSampler:
        """Makes the sampler that proposes one trial.

        Each trial has its own seed, so a proposal follows from the seed, its number and the study's past
        alone: a search that was killed and resumed does not draw its first points again, as it would with a
        sampler seeded afresh. See ``make_sampler`` for ``conditional``.
        """
        seed = int(np.random.SeedSequence([self.seed, trial_number]).generate_state(1)[0])
        return make_sampler(self.sampler, seed, self.startup_trials, conditional)


def make_sampler(
    kind: SamplerKind, seed: int, startup_trials: int = 10, conditional: bool = False
) -> optuna.samplers.BaseSampler:
    """Makes a seeded sampler.

    ``tpe`` is the tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023, arXiv 2304.11127),
    over all parameters jointly, with running trials counted as bad ones (constant liar) so that parallel
    trials differ. With ``conditional`` the parameters are split into groups that are drawn together in the
    trials so far (all that apply always, all that apply with LoRA, ...), and those of one group are modelled
    jointly; otherwise only the parameters of every trial would be.

    Raises:
        SearchError: A kind that does not exist, or a negative number.
    """
    if kind not in get_args(SamplerKind):
        raise SearchError(f"sampler kind must be one of {', '.join(get_args(SamplerKind))}, got {kind!r}")
    if seed < 0 or startup_trials < 0:
        raise SearchError(
            "seed and startup_trials must be at least 0, "
            f"but got (seed={seed}, startup_trials={startup_trials})"
        )
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # Optuna calls groups experimental since 2.8, and would say so for every trial.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=startup_trials, seed=seed, multivariate=True, group=conditional, constant_liar=True
        )


def open_study(
    journal: Path,
    name: str,
    sampler: optuna.samplers.BaseSampler,
    modes: Sequence[Mode] = ("max",),
) -> optuna.Study:
    """Opens a study in a journal file, or makes it, after mending what a kill can leave behind.

    Two things are mended: a lock older than ``STALE_LOCK_S`` is removed (an owner holds it for one append,
    so it is dead), and a last line that was not written whole is dropped, as the next append would merge with
    it.

    Raises:
        SearchError: The file cannot be read or written, is no journal, is damaged before its last line, holds
            records of something else, or a study of that name with other directions.
    """
    # The lock is a symbolic link to the journal: from a relative path it would point nowhere.
    journal = journal.absolute()
    directions = [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in modes]
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_lock(journal)
        drop_torn_line(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage,
            sampler=sampler,
            # The scheduler of Ray Tune decides which trials stop, never Optuna.
            pruner=optuna.pruners.NopPruner(),
            study_name=name,
            directions=directions,
            load_if_exists=True,
        )
    except OSError as error:
        raise SearchError(f"the study's journal {journal} cannot be used: {error}") from error
    except (AssertionError, *CONTENT_ERRORS) as error:  # Optuna's, of lines that are JSON and no records of its own
        raise SearchError(
            f"the study's journal {journal} holds records that Optuna cannot read "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); bring it back from a copy, or start a "
            "new search"
        ) from error
    if study.directions != directions:
        raise SearchError(
            f"study {name!r} in {journal} was made to {_name_directions(study.directions)} its values, "
            f"but is now asked to {_name_directions(directions)} them"
        )
    return study


def _name_directions(directions: Sequence[StudyDirection]) -> str:
    return " and ".join(direction.name.lower() for direction in directions)


def remove_stale_lock(journal: Path) -> bool:
    """Removes the journal's lock if it is older than ``STALE_LOCK_S``; returns whether it did."""
    lock = journal.with_name(f"{journal.name}.lock")
    try:
        age_s = time.time() - lock.lstat().st_mtime
        if age_s <= STALE_LOCK_S:
            return False
        lock.unlink()
    except FileNotFoundError:
        return False
    _log.warning("removed the lock %s, left behind %.0f s ago", lock, age_s)
    return True


def drop_torn_line(journal: Path) -> int:
    """Cuts the journal's last line off if it is no whole record; returns the number of bytes dropped.

    Raises:
        SearchError: The file is no journal, or a line before the last is damaged.
    """
    if not journal.exists():
        return 0
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()  # another process may be in the middle of a line
    try:
        content = journal.read_bytes()
        if not content.startswith(_FIRST_BYTES[: len(content)]):
            raise SearchError(f"{journal} is not a journal of Optuna; give another path, or move it away")
        lines = content.splitlines(keepends=True)
        bad = [number for number, line in enumerate(lines, start=1) if not _is_record(line)]
        if not bad:
            return 0
        if bad[0] < len(lines):
            n_after = len(lines) - bad[0]
            raise SearchError(
                f"{journal}:{bad[0]}: damaged line in the journal, {n_after} lines before its end"
            )
        n_torn = len(lines[-1])
        with journal.open("r+b") as file:
            file.truncate(len(content) - n_torn)
            os.fsync(file.fileno())
    finally:
        lock.release()
    _log.warning("dropped the last line of %s (%d bytes), which was not written whole", journal, n_torn)
    return n_torn


@contextmanager
def undo_if_torn(journal: Path) -> Iterator[None]:
    """Notes the journal's length while several lines are written that belong together: a trial drawn, or its end.

    A process that dies in between leaves the note, and :func:`undo_torn_lines` takes the lines back. The search's own
    process must be the only one that writes to the journal.
    """
    mark = _locate_mark(journal)
    write_whole(mark, str(journal.stat().st_size))
    yield
    mark.unlink()


def undo_torn_lines(journal: Path) -> bool:
    """Takes back what was being written when the search's process died; returns whether there was anything.

    Only for the process that owns the search: for another one, the lines may be being written right now.

    Raises:
        SearchError: The note holds no length that the journal has had, or either cannot be read or written.
    """
    mark = _locate_mark(journal)
    if not mark.exists():
        return False
    try:
        length, size = _read_length(mark), journal.stat().st_size if journal.exists() else 0
        if length is None or length > size:
            raise SearchError(
                f"{mark} is damaged: it must hold a length of {journal.name}, from 0 to {size} bytes; remove it to go "
                "on with the journal as it is, whose last trial may then not be whole"
            )
        with journal.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
        mark.unlink()
    except OSError as error:
        raise SearchError(f"what {mark} notes cannot be taken back: {error}") from error
    return True


def _read_length(mark: Path) -> int | None:
    text = mark.read_bytes().strip()
    return int(text) if re.fullmatch(rb"[0-9]{1,18}", text) else None


def _locate_mark(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.undo")


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
