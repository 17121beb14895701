"""What a search leaves when it has ended: overlays and report for the eye, the last records of its parent run."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path

from search.cluster.workers import call_with_resources
from search.errors import SearchError
from search.judging.openings import make_opening_tags
from search.judging.verdict import Verdict
from search.plan.resume import describe_resume
from search.reporting.page import write_report
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import read_finalists
from search.run_folder.layout import NAMING_FOLDER, RECORD_FILE, REPORT_FILE, list_results
from search.run_folder.summary import Summary
from search.stages.session import Session
from search.study.ranking import RankedTrial
from search.tracking.callback import OUTBOX_FILE
from search.tracking.outbox import RETRY_S, Outbox, Record
from search.tracking.search_run import deliver_search_record
from trainables.evaluation.candidates import Candidate
from trainables.evaluation.overlay import draw_overlays

CLOSING_FILE = "mlflow_closing.jsonl"
PATIENCE_S = 30.0  # at a search's end, nobody else delivers what waits
# Regions and trials that are drawn for the eye.
N_OVERLAY_REGIONS = 4
N_OVERLAY_TRIALS = 3


def draw_best(session: Session, chosen: Chosen, best: Sequence[RankedTrial]) -> Path:
    """Draws the first validation regions with zero-shot, the chosen model and the best trials side by side."""
    plan, context = session.plan, session.context
    candidates: dict[str, Candidate] = {
        "zero-shot": Candidate(None),
        # A refit has been trained on the regions that are drawn.
        "winner, refit" if chosen.refit else "winner": Candidate(chosen.locate(plan.folder), chosen.scale),
    }
    for each in best[:N_OVERLAY_TRIALS]:
        candidates[f"trial {each.trial_id}"] = Candidate(context.locate_fold(each.checkpoint, 0))
    folder = plan.folder / "overlays"
    names = context.list_folds()[0].val[:N_OVERLAY_REGIONS]
    call_with_resources(session.resources, "the overlays", draw_overlays, context, candidates, names, folder)
    return folder


def write_final_report(session: Session) -> Path | None:
    """Writes ``report.html``; what is wrong with it is told, and takes nothing from the search's end."""
    folder = session.plan.folder
    try:
        return write_report(folder, folder / REPORT_FILE)
    except SearchError as error:
        session.say(f"no report: {error}")
        return None


def finish_tracking(session: Session, records: Sequence[Record]) -> None:
    """Adds what is known at the end to the search's run and its trials', and ends the search's run.

    Each record is delivered on its own. Where MLflow is out of reach, they and what the trials have left are tried
    again for :data:`PATIENCE_S` seconds; what then still waits on disk is told.

    Args:
        session: The search, all its trials ended.
        records: See :func:`~search.tracking.search_run.deliver_search_record`; the time is added here, and what every
            search has left to say.
    """
    folder, parent = session.plan.folder, session.record.parent_run_id
    trials = session.open_outbox()
    path = folder / CLOSING_FILE
    if path.is_file():
        path.unlink()  # what an earlier end has left: all of it is written anew
    # Not in order: a file that its store does not take must not hold up the others.
    deliver_one = functools.partial(deliver_search_record, session.tracker, parent, folder)
    closing = Outbox(path, deliver_one, in_order=False)
    time_ms = int(time.time() * 1000)
    for record in [*records, *_list_of_every_search(folder)]:
        closing.post({**record, "time_ms": time_ms})

    def deliver() -> int:
        # The winner's run is among what the trials have left.
        n_trials = trials.flush()
        return n_trials + (len(closing.pending) if n_trials else closing.flush(force=True))

    waiting, deadline_s = deliver(), time.monotonic() + PATIENCE_S
    if waiting:
        session.say(f"MLflow could not be reached: trying for {PATIENCE_S:.0f} s more ...")
    while waiting and time.monotonic() < deadline_s:
        time.sleep(RETRY_S)
        waiting = deliver()
    if waiting:
        session.say(
            f"MLflow could not be reached: {waiting} records wait in {folder}, files {OUTBOX_FILE} and {CLOSING_FILE}. "
            "They are delivered by:"
        )
        session.say(f"  {describe_resume(folder)}")


def list_last_records(session: Session, summary: Summary, verdict: Verdict, overlays: Path) -> list[Record]:
    """Returns what a search that trains says at its end: the light records first, as a store of files may fail."""
    plan, winner = session.plan, {"trial_id": summary.chosen.trial_id}
    figures = {**summary.to_metrics(), **summary.naming}
    former = dict.fromkeys(each for each in Summary.list_former_winners(plan.folder) if each != summary.chosen.trial_id)
    records: list[Record] = [
        # The run shows the best so far over the number of trials that have ended: these are figures of all of them.
        {"event": "metrics", "metrics": figures, "step": sum(summary.trials.values())},
        *_list_scales(plan.folder, summary.chosen.trial_id),
        {"event": "tags", "tags": {"verdict": verdict.word, "best_trial": summary.chosen.trial_id}},
        *([{"event": "tags", "tags": make_opening_tags(summary.test.openings)}] if summary.test.openings > 1 else []),
        *({"event": "tags", "tags": {"winner": "no"}, "trial_id": each} for each in former),
        {"event": "tags", "tags": {"winner": "yes", "verdict": verdict.word}, **winner},
        {"event": "finish"},
        {"event": "text", "text": verdict.to_text(), "file": "verdict.txt"},
        *({"event": "artifact", "path": str(file), "into": None} for file in list_results(plan.folder)),
        {"event": "artifact", "path": str(overlays), "into": "overlays"},
        {"event": "artifact", "path": str(overlays), "into": "overlays", **winner},
    ]
    if summary.export:
        records.append({"event": "artifact", "path": summary.export, "into": "export", **winner})
    return records


def _list_scales(folder: Path, best_trial: str) -> list[Record]:
    """Returns the chosen configuration's Dice at each scale of its update, as steps of one curve."""
    return [
        {"event": "metrics", "metrics": {"val_dice_by_scale_percent": dice}, "step": round(100 * scale)}
        for finalist in read_finalists(folder)
        if finalist.trial_id == best_trial
        for scale, dice in finalist.average_scales().items()
    ]


def _list_of_every_search(folder: Path) -> list[Record]:
    """Returns what is written while a search runs, where MLflow may have been out of reach, and what names masks."""
    records: list[Record] = [
        {"event": "artifact", "path": str(folder / RECORD_FILE), "into": None},
        {"event": "recorded experiments"},
    ]
    if (folder / NAMING_FOLDER).is_dir():
        records.append({"event": "artifact", "path": str(folder / NAMING_FOLDER), "into": NAMING_FOLDER})
    return records
