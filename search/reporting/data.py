"""Reads what a report shows from a search's folder; of a search that has not ended, as much as is there."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from search.errors import SearchError
from search.judging.openings import describe_openings, locate_test_scores, read_openings
from search.judging.verdict import Verdict, read_verdict
from search.run_folder.chosen import Chosen
from search.run_folder.contenders import Contender
from search.run_folder.finalists import Confirmation, Finalist
from search.run_folder.json_files import find_record
from search.run_folder.layout import CHOSEN_FILE, PARETO_FILE, TRIALS_FOLDER
from search.run_folder.protocol_table import ProtocolRow, ProtocolTable
from search.run_folder.score_table import PairMeans, read_means
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.run_folder.trial_folder import locate_trial, read_epochs
from search.space.objective import DICE, PARAMETERS, Objective
from search.study.ranking import read_chosen
from search.study.study_file import make_study_file
from search.study.trial_attributes import (
    REASON,
    RETRY_OF,
    STARTING_POINT,
    has_begun,
    name_origin,
    name_state,
    read_all_trials,
    read_curve,
)
from trainables.context import STOPPED_BY
from trainables.errors import TrainablesError
from trainables.protocol.spec import Protocol

# With fewer trials an importance means nothing. Of functions of lora.yaml that the learning rate rules,
# fANOVA named it first for 1 of 8 with 8 random trials, for 7 with 12, for all with 16. PED-ANOVA (arXiv 2304.10255;
# best third) needs more: 3, 4 and 11 of 12.
MIN_TRIALS = 12


_ORIGINS = {STARTING_POINT: "", RETRY_OF: "tries again "}


@dataclass(frozen=True)
class TrialReport:
    """One trial of a search.

    Attributes:
        number: Its place among the search's trials, from 0.
        trial_id: Ray's id, after the search's name if that is an earlier one; empty if the trial was lost before it
            had one.
        state: ``complete``, ``stopped``, ``failed`` or ``unfinished``.
        origin: Its starting point, the failed trial that it tries again; empty for a sampled trial.
        end: Which rule ended it and why, or why it failed; empty if it ended by itself.
        params: Values that the study drew for it, by flat name.
        epochs: Metrics that it reported, by epoch and name.
        best_epoch: The first epoch with the highest objective; 0 if it reported none.
        best: The objective at that epoch; NaN if it reported none.
    """

    number: int
    trial_id: str
    state: str
    origin: str
    end: str
    params: Mapping[str, Any]
    epochs: Mapping[int, Mapping[str, float]]
    best_epoch: int
    best: float

    def read_best(self, metric: str) -> float:
        """Returns another metric of its best epoch; NaN if it was not reported."""
        return self.epochs.get(self.best_epoch, {}).get(metric, math.nan)

    @property
    def val_dice(self) -> float:
        """Validation Dice of its best epoch."""
        return self.read_best(DICE)

    @property
    def n_parameters(self) -> float:
        """Number of trained parameters; NaN if it was not reported."""
        return self.read_best(PARAMETERS)


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows; what the search has not reached is None or empty.

    Attributes:
        protocol: Protocol of every Dice except those of ``protocols``.
        bar: Zero-shot's value of the objective on validation; NaN if it is not known.
        val: Zero-shot on validation, with floor and ceiling.
        test: Winner and zero-shot on test, with floor and ceiling.
        pareto: Ids of the trials in the Pareto set.
        imported: Ended trials of earlier searches that a warm start gave to this one; their epochs hold the objective
            alone.
        importance: Share of the objective's variance between trials at their best epoch, by parameter.
        protocols: Zero-shot under each trial's own protocol, for a search that trains nothing.
    """

    folder: Path
    record: SearchRecord
    protocol: Protocol
    objective: Objective
    trials: tuple[TrialReport, ...]
    imported: tuple[TrialReport, ...]
    bar: float
    val: PairMeans | None
    test: PairMeans | None
    verdict: Verdict | None
    summary: Summary | None
    chosen: Chosen | None
    finalists: tuple[Finalist, ...]
    contenders: tuple[Contender, ...]
    pareto: tuple[str, ...]
    importance: Mapping[str, float]
    protocols: tuple[ProtocolRow, ...]
    caveats: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether the search trained anything."""
        return bool(self.record.config.get("train", True))

    @property
    def best(self) -> TrialReport | None:
        """The trial with the highest objective."""
        scored = [trial for trial in self.trials if math.isfinite(trial.best)]
        return max(scored, key=lambda trial: trial.best, default=None)

    @property
    def scored(self) -> tuple[TrialReport, ...]:
        """The trials that have a best epoch, those of earlier searches last."""
        return tuple(trial for trial in (*self.trials, *self.imported) if math.isfinite(trial.best))

    @property
    def main_parameters(self) -> tuple[str, ...]:
        """The searched parameters, the most important first if that is known."""
        names = list(self.record.config.get("space", {}))
        return tuple(sorted(names, key=lambda name: -self.importance.get(name, 0.0)))


def read_report(folder: Path) -> ReportData:
    """Reads a search's folder.

    Raises:
        ConfigError: If the folder holds no search.
        SearchError: If one of its files is damaged.
    """
    record = SearchRecord.read(folder)
    with report_damaged_folder(folder):
        return _read(folder, record)


@contextmanager
def report_damaged_folder(folder: Path) -> Iterator[None]:
    """Turns errors that a damaged file of a search causes, where it is read or shown, into one error.

    Raises:
        SearchError: If anything within raises such an error.
    """
    try:
        yield
    except TrainablesError:
        raise
    except Exception as error:  # what a study, a table or a page of damaged values raises has no common base
        words = " ".join(str(error).split())[:200]
        raise SearchError(f"{folder} cannot be reported: {type(error).__name__}: {words}") from error


def _read(folder: Path, record: SearchRecord) -> ReportData:
    objective, context = Objective.from_config(record.config), record.context
    own, imported = read_all_trials(make_study_file(folder, record))
    begun = [(number, trial) for number, trial in enumerate(own) if has_begun(trial)]
    trials = tuple(_read_trial(number, trial, folder, objective) for number, trial in begun)
    earlier = tuple(_read_trial(number, trial, None, objective) for number, trial in enumerate(imported))
    summary, table, confirmation = Summary.read(folder), ProtocolTable.read(folder), Confirmation.read(folder)
    pareto = find_record(folder / PARETO_FILE, dict[str, Any])
    val = read_means(folder / "scores_val_zeroshot.csv")
    # The summary names the opening of the test set that it reports; other openings were of other trials.
    test_file = locate_test_scores(folder, summary.test.opening) if summary else None
    verdict = None
    if test_file is not None and test_file.is_file():
        verdict = read_verdict(test_file, context.protocol.is_auto)
    return ReportData(
        folder=folder,
        record=record,
        protocol=context.protocol,
        objective=objective,
        trials=trials,
        imported=earlier,
        bar=_find_bar(summary, val, objective, context.protocol),
        val=val,
        test=read_means(test_file) if test_file else None,
        verdict=verdict,
        summary=summary,
        chosen=read_chosen(folder, record) if (folder / CHOSEN_FILE).is_file() else None,
        finalists=confirmation.finalists,
        contenders=confirmation.contenders,
        pareto=tuple(member["trial_id"] for member in pareto["members"]) if pareto else (),
        importance=_measure_importance([*(one for _, one in begun), *imported], [*trials, *earlier], context.seed),
        protocols=table.rows if table else (),
        caveats=_list_caveats(folder, record, summary, table),
    )


def _read_trial(number: int, trial: FrozenTrial, folder: Path | None, objective: Objective) -> TrialReport:
    """Reads a trial with the epochs in its folder; without one those of the study."""
    trial_id, attrs = name_origin(trial), trial.user_attrs
    if folder is None:
        epochs = {epoch: dict(zip(objective.metrics, row, strict=True)) for epoch, row in read_curve(trial).items()}
    else:
        epochs = read_epochs(locate_trial(folder / TRIALS_FOLDER, trial_id))
    curve = {epoch: row[objective.metric] for epoch, row in sorted(epochs.items()) if objective.metric in row}
    finite = {epoch: value for epoch, value in curve.items() if math.isfinite(value)}
    best_epoch = max(finite, key=lambda epoch: finite[epoch], default=0)
    return TrialReport(
        number=number,
        trial_id=trial_id,
        state=name_state(trial),
        origin="; ".join(lead + str(attrs[name]) for name, lead in _ORIGINS.items() if name in attrs),
        end="; ".join(str(attrs[name]) for name in (STOPPED_BY, REASON) if name in attrs),
        params=trial.params,
        epochs=epochs,
        best_epoch=best_epoch,
        best=finite.get(best_epoch, math.nan),
    )


def _find_bar(summary: Summary | None, val: PairMeans | None, objective: Objective, protocol: Protocol) -> float:
    """Returns zero-shot's value of the objective: from the summary, else from zero-shot's pairs."""
    if summary is not None and objective.metric == DICE:
        return summary.bar.dice
    if summary is not None and summary.bar.objective_value is not None:
        return summary.bar.objective_value
    if val is None or protocol.is_auto:
        return math.nan
    by_class = [means["zeroshot"] for means in val.by_class.values()]
    if objective.metric == "val_dice_min_class":
        return min(by_class)
    if objective.metric != DICE:
        return math.nan
    means = {"pairs": val.overall["zeroshot"], "classes": float(np.mean(by_class))}
    return means.get(protocol.averaging, math.nan)


def _measure_importance(trials: Sequence[FrozenTrial], reports: Sequence[TrialReport], seed: int) -> dict[str, float]:
    """Returns fANOVA's shares (Hutter et al. 2014), the greatest first; nothing if too few trials have a score.

    All count at their best epoch, also those that were stopped. Parameters that only some of them have are left out.
    """
    scored = [(one, report.best) for one, report in zip(trials, reports, strict=True) if math.isfinite(report.best)]
    if len(scored) < MIN_TRIALS or len({best for _, best in scored}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    for one, best in scored:
        study.add_trial(optuna.trial.create_trial(value=best, params=one.params, distributions=one.distributions))
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed)))


def _list_caveats(
    folder: Path, record: SearchRecord, summary: Summary | None, table: ProtocolTable | None
) -> tuple[str, ...]:
    caveats = [f"{record.demo}: these numbers say nothing about SAM2 on tissue"] if record.demo else []
    if summary is None and table is None:
        caveats.append("this search has not come to its end: there is no verdict, and what follows may still change")
    caveats += [*(table.caveats if table else []), *record.caveats, *(summary.origin.caveats if summary else [])]
    caveats += filter(None, [describe_openings(len(read_openings(folder)))])
    return tuple(dict.fromkeys(caveats))  # each once, in this order


def add_leading(data: ReportData) -> PairMeans | None:
    """Returns the means on validation, with the leading trial as ``winner`` if it reported such means."""
    val, best = data.val, data.best
    if val is None or best is None or data.protocol.averaging != "pairs":
        return val
    dice = {name: best.read_best(f"{DICE}/{name}") for name in val.by_class}
    overall = best.read_best(DICE)
    if not all(map(math.isfinite, [overall, *dice.values()])):
        return val
    by_class = {name: {"winner": dice[name], **row} for name, row in val.by_class.items()}
    return PairMeans({"winner": overall, **val.overall}, by_class, val.n_pairs)
