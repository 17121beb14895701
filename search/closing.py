"""What a search leaves when it has ended: overlays and report for the eye, the last records of its parent run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.chosen import CHOSEN_FILE, Chosen
from search.cluster import call_with_resources
from search.errors import SearchError
from search.finalists import CONFIRMATION_FILE
from search.objective import PARETO_FILE
from search.openings import OPENINGS_FILE
from search.report import write_report
from search.results import Winner
from search.session import Session
from search.summary import SUMMARY_FILE, Summary
from search.verdict import Verdict
from trainables.overlay import draw_overlays
from trainables.scoring import Candidate

REPORT_FILE = "report.html"
# Regions and trials that are drawn for the eye.
N_OVERLAY_REGIONS = 4
N_OVERLAY_TRIALS = 3


def draw_best(session: Session, chosen: Chosen, best: Sequence[Winner]) -> Path:
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
    call_with_resources(session.resources, draw_overlays, context, candidates, names, folder)
    return folder


def write_final_report(session: Session) -> Path | None:
    """Writes ``report.html``; what is wrong with it is told, and takes nothing from the search's end."""
    folder = session.plan.folder
    try:
        return write_report(folder, folder / REPORT_FILE)
    except SearchError as error:
        session.say(f"no report: {error}")
        return None


def finish_tracking(session: Session, summary: Summary, verdict: Verdict, overlays: Path) -> None:
    """Adds what is known at the end to the parent run and the winner's."""
    plan, tracker, parent = session.plan, session.tracker, session.record.parent_run_id
    tracker.log_metrics(parent, summary.to_metrics(), plan.config.max_epochs)
    tracker.set_tags(parent, {"verdict": verdict.word, "best_trial": summary.best_trial})
    tracker.log_text(parent, verdict.to_text(), "verdict.txt")
    files = [plan.folder / name for name in (SUMMARY_FILE, CHOSEN_FILE, CONFIRMATION_FILE, OPENINGS_FILE)]
    files += [plan.folder / PARETO_FILE] if plan.config.objective.is_pair else []
    for file in [*sorted(plan.folder.glob("*.csv")), *files]:
        tracker.log_artifact(parent, file)
    if (plan.folder / REPORT_FILE).is_file():
        tracker.log_artifact(parent, plan.folder / REPORT_FILE)
    tracker.log_artifact(parent, overlays, "overlays")
    run_id = tracker.find_child(parent, {"ray_trial_id": summary.best_trial})
    if run_id is not None:
        tracker.set_tags(run_id, {"winner": "yes", "verdict": verdict.word})
        tracker.log_artifact(run_id, Path(summary.export), "export")
        tracker.log_artifact(run_id, overlays, "overlays")
