"""The Optuna study of a search: where it lies, and the sampler that proposes trials."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from search.errors import SearchError
from search.run_folder.search_record import SearchRecord
from search.space.kinds import SamplerKind
from search.space.objective import Mode, Objective
from search.study.journal import drop_torn_line, remove_stale_lock
from search.study.samplers import NumberedQMC, PausedAsStopped


@dataclass(frozen=True)
class StudyFile:
    """Where a study lives and how it samples: all that another process needs to go on with it.

    Attributes:
        journal: Journal file of Optuna, made if missing; an absolute path, as Ray changes directories.
        seed: Seed of the whole search, at least 0.
        startup_trials: Finished trials (stopped ones too) before TPE takes over from random sampling.
        modes: Whether a larger (``max``) or a smaller (``min``) value is better, one an objective.
        pauses: Whether trials pause, so that what runs in the study with a curve may be paused: the sampler learns from
            it as from a trial that was stopped there.
    """

    journal: Path
    name: str
    sampler: SamplerKind = "tpe"
    seed: int = 0
    startup_trials: int = 10
    modes: tuple[Mode, ...] = ("max",)
    pauses: bool = False

    def open(self) -> optuna.Study:
        """Opens the study in its journal, or makes it, after mending what a kill can leave behind.

        A lock older than ``STALE_LOCK_S`` is removed (its owner, who would hold it for one append only, is dead), and
        so is a last line that was not written whole: the next append would merge with it.

        Raises:
            SearchError: The file cannot be read or written, is no journal, is damaged before its last line, or holds
                records of something else.
        """
        # Trials and tests change the working directory.
        journal = self.journal.absolute()
        with _explain_errors(journal):
            journal.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_lock(journal)
            drop_torn_line(journal)
            return optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal)))),
                sampler=self.make_sampler(0),
                # The scheduler of Ray Tune decides which trials stop, never Optuna.
                pruner=optuna.pruners.NopPruner(),
                study_name=self.name,
                directions=["maximize" if mode == "max" else "minimize" for mode in self.modes],
                load_if_exists=True,
            )

    def read(self) -> optuna.Study | None:
        """Returns the study to be read, whoever writes it, in a folder that one may only read; None before it is made.

        A last line that is not whole is left out, and nothing is written.

        Raises:
            SearchError: As :meth:`open`.
        """
        journal = self.journal.absolute()
        with _explain_errors(journal):
            if not journal.exists():
                return None
            storage = JournalStorage(JournalFileBackend(str(journal)))
            if self.name not in (names := optuna.get_all_study_names(storage)):
                if not names and b"\n" in journal.read_bytes():
                    raise ValueError("none of its lines is a record")
                return None
            return optuna.load_study(study_name=self.name, storage=storage)

    def make_sampler(self, trial_number: int, conditional: bool = False) -> optuna.samplers.BaseSampler:
        """Makes the sampler that proposes one trial.

        Each trial has its own seed, so a proposal follows from the seed, its number and the study's past alone: a
        resumed search does not draw its first points again, as with one seeded sampler.

        ``tpe`` is the tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023, arXiv 2304.11127), over
        all parameters jointly, with running trials counted as bad ones (constant liar) so that parallel trials differ.
        With ``conditional`` the parameters are split into groups that are drawn together in the trials so far (all that
        apply always, all that apply with LoRA, ...), and those of one group are modelled jointly; otherwise only the
        parameters of every trial would be.

        ``gp`` is a Gaussian process with log expected improvement, which learns from complete trials alone; ``qmc`` a
        scrambled Sobol sequence, in which a trial's place follows from its number. Both draw at random what not every
        trial has.
        """
        sampler = self._make_sampler(trial_number, conditional)
        return PausedAsStopped(sampler) if self.pauses else sampler

    def _make_sampler(self, trial_number: int, conditional: bool) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self.seed, trial_number]).generate_state(1)[0])
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            # Optuna calls these samplers, and groups since 2.8, experimental, and would say so for every trial.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            n_startup = self.startup_trials
            if self.sampler == "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=n_startup, warn_independent_sampling=False)
            if self.sampler == "qmc":
                return NumberedQMC(self.seed, trial_number, optuna.samplers.RandomSampler(seed=seed))
            return optuna.samplers.TPESampler(
                n_startup_trials=n_startup, seed=seed, multivariate=True, group=conditional, constant_liar=True
            )


@contextmanager
def _explain_errors(journal: Path) -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # that a study is opened is no news
    try:
        yield
    except SearchError:
        raise
    except OSError as error:
        raise SearchError(f"the study's journal {journal} cannot be used: {error}") from error
    except Exception as error:  # Optuna raises almost anything on lines that are JSON but not its records
        raise SearchError(
            f"the study's journal {journal} holds records that Optuna cannot read "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); bring it back from a copy, or start "
            "a new search"
        ) from error


def make_study_file(folder: Path, record: SearchRecord) -> StudyFile:
    """Returns where the search's Optuna study lies and how it samples."""
    return plan_study_file(folder, record.search_id, record.config, record.context.seed)


def plan_study_file(folder: Path, name: str, config: Mapping[str, Any], seed: int) -> StudyFile:
    """Returns the same for a search of this resolved configuration."""
    sampler = config["sampler"]
    return StudyFile(
        folder / "study.journal",
        name,
        sampler["kind"],
        seed,
        sampler.get("startup_trials", 0),
        Objective.from_config(config).modes,
        pauses=config.get("scheduler", {}).get("kind") == "promotion",
    )
