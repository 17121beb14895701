"""The end of a search: pictures of its best models, the report, and the last records of its MLflow runs."""

import time
from collections.abc import Sequence
from pathlib import Path

from search.cluster.workers import call_with_resources
from search.judging.openings import make_opening_tags
from search.judging.verdict import Verdict
from search.mlflow_pages.notes import NOTE_TAG
from search.mlflow_pages.outcome import describe_outcome
from search.mlflow_pages.views import OVERLAY_KEY
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Confirmation
from search.run_folder.layout import NAMING_FOLDER, RECORD_FILE, REPORT_FILE, describe_resume, list_results
from search.run_folder.summary import Summary
from search.served_model.registry import CHOICE_TAG, name_model
from search.served_model.saving import WEIGHTS_FILE
from search.stages.session import Session
from search.tracking.outbox import RETRY_S
from search.tracking.page_records import Choice, Model, Pictures, Table, View
from search.tracking.records import Artifact, End, Metrics, Record, RecordedExperiments, Tags, Text
from search.tracking.search_queue import CLOSING_FILE, OUTBOX_FILE
from trainables.evaluation.candidates import Candidate
from trainables.evaluation.overlay import draw_telling

PATIENCE_S = 30.0  # at a search's end, nobody else delivers what waits
N_OVERLAYS = 4  # regions that are drawn for the eye


def draw_winner(session: Session, chosen: Chosen) -> Path | None:
    """Draws the validation regions on which zero-shot and the chosen model differ most, with both side by side.

    Returns their folder; None, with a line on the screen, where that fails: the result is there already.
    """
    plan, context = session.plan, session.context
    candidates: dict[str, Candidate] = {
        "zero-shot": Candidate(None),
        # A refit has been trained on the regions that are drawn.
        "winner, refit" if chosen.refit else "winner": Candidate(chosen.locate(plan.folder), chosen.scale),
    }
    folder, names = plan.folder / "overlays", context.list_folds()[0].val
    try:
        arguments = context, candidates, names, folder, N_OVERLAYS
        call_with_resources(session.resources, "the overlays", draw_telling, *arguments)
    except Exception as error:
        session.say(f"no overlays: {_shorten(error)}")
        return None
    return folder


def write_final_report(session: Session) -> Path | None:
    """Writes ``report.html`` and returns its path; None, with a line on the screen, where that fails."""
    folder = session.plan.folder
    try:
        from search.reporting.page import write_report  # late: its plots import what the search needs for nothing else

        return write_report(folder, folder / REPORT_FILE)
    except Exception as error:  # a picture that fails must not hide the result
        session.say(f"no report: {_shorten(error)}; search.report writes it later")
        return None


def _shorten(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2][:300] or type(error).__name__


def finish_tracking(session: Session, records: Sequence[Record]) -> None:
    """Delivers the last records of a search whose trials have ended, in their order, and those that every search has.

    Once MLflow has taken nothing for :data:`PATIENCE_S` seconds, it prints what waits on disk.
    """
    folder, queue = session.plan.folder, session.open_queue()
    closing = queue.open_closing([*records, *_list_of_every_search(folder)])

    def deliver() -> int:
        # The winner's run is among what the trials have left.
        n_trials = queue.flush()
        return n_trials + (len(closing.pending) if n_trials else closing.flush(force=True))

    waiting, deadline_s = deliver(), time.monotonic() + PATIENCE_S
    if waiting:
        session.say(f"{waiting} records wait for MLflow: trying until it has taken none for {PATIENCE_S:.0f} s ...")
    while waiting and time.monotonic() < deadline_s:
        before, waiting = waiting, deliver()
        if waiting < before:  # it is slow
            deadline_s = time.monotonic() + PATIENCE_S
        elif waiting:
            time.sleep(RETRY_S)
    if waiting:
        session.say(
            f"{waiting} records wait for MLflow in {folder}, files {OUTBOX_FILE} and {CLOSING_FILE}. "
            "They are delivered by:"
        )
        session.say(f"  {describe_resume(folder)}")


def list_last_records(
    session: Session, summary: Summary, verdict: Verdict, overlays: Path | None, leaderboard: Table | None = None
) -> list[Record]:
    """Returns the last records of a search that trains: the light ones first, as a store of files may fail."""
    folder, best = session.plan.folder, summary.chosen.trial_id
    former = dict.fromkeys(each for each in Summary.list_former_winners(folder) if each != best)
    records: list[Record] = [
        # The run shows the best so far over the number of trials that have ended: these are figures of all of them.
        Metrics({**summary.to_metrics(), **summary.naming}, sum(summary.trials.values())),
        *_list_scales(folder, best),
        Tags({"verdict": verdict.word, "best_trial": best}),
        *([Tags(make_opening_tags(summary.test.openings))] if summary.test.openings > 1 else []),
        *(Choice(trial_id, is_winner=False) for trial_id in former),
        Choice(best, is_winner=True, tags={"verdict": verdict.word}),
        Tags({NOTE_TAG: describe_outcome(summary, verdict)}),
        View(session.view, best),
        End(),
        Text(verdict.to_text(), "verdict.txt"),
        *([leaderboard] if leaderboard else []),
        *(Artifact(str(file)) for file in list_results(folder)),
    ]
    for trial_id in (None, best) if overlays else ():
        records += [Artifact(str(overlays), "overlays", trial_id), Pictures(str(overlays), OVERLAY_KEY, trial_id)]
    if summary.export and Path(summary.export).is_dir():
        records.append(Artifact(summary.export, "export", best))
        if (Path(summary.export) / WEIGHTS_FILE).is_file():
            records.append(_describe_model(session, summary))
    return records


def _describe_model(session: Session, summary: Summary) -> Model:
    chosen, test = summary.chosen, summary.test
    figures = {"val_dice": chosen.val_dice, "test_dice": test.dice, "zeroshot_test_dice": test.zeroshot_dice}
    tags = {
        CHOICE_TAG: chosen.describe(),
        "search": session.plan.name,
        "verdict": test.verdict,
        "demo": summary.origin.demo or "no",
        "protocol_id": summary.origin.protocol_id,
        "data_fingerprint": summary.origin.data_fingerprint,
        **{name: f"{value:.4f}" for name, value in figures.items()},
    }
    description = (
        f"Search {session.plan.name}, {chosen.describe()}. Dice on test: {test.dice:.3f}, zero-shot "
        f"{test.zeroshot_dice:.3f}; zero-shot is {test.verdict}."
    )
    return Model(summary.export, name_model(session.record.experiment), chosen.trial_id, tags, description)


def _list_scales(folder: Path, best_trial: str) -> list[Record]:
    """Returns the chosen configuration's Dice at each scale of its update, as steps of one curve."""
    return [
        Metrics({"val_dice_by_scale_percent": dice}, round(100 * scale))
        for finalist in Confirmation.read(folder).finalists
        if finalist.trial_id == best_trial
        for scale, dice in finalist.average_scales().items()
    ]


def _list_of_every_search(folder: Path) -> list[Record]:
    """Returns what is written while a search runs, where MLflow may have been out of reach, and the masks' names."""
    records: list[Record] = [Artifact(str(folder / RECORD_FILE)), RecordedExperiments()]
    if (folder / NAMING_FOLDER).is_dir():
        records.append(Artifact(str(folder / NAMING_FOLDER), NAMING_FOLDER))
    return records
