"""The end of a search that trains nothing: a table of zero-shot under each trial's protocol, unranked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from search.run_folder.layout import PROTOCOLS_FILE, TRIALS_FOLDER
from search.run_folder.protocol_table import PROTOCOLS_DIFFER, ProtocolRow, ProtocolTable
from search.run_folder.trial_folder import locate_trial, read_reports
from search.stages.closing import finish_tracking
from search.stages.session import Session
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT, read_trials
from search.tracking.records import Artifact, End, Metrics, Tags


def compare_protocols(session: Session, naming: Mapping[str, float]) -> ProtocolTable:
    """Writes, logs and returns the table of zero-shot's scores and names; nothing is chosen, tested or exported."""
    plan = session.plan
    trials = read_trials(make_study_file(plan.folder, session.record))
    table = ProtocolTable(
        search_id=plan.name,
        demo=plan.demo_words,
        data_fingerprint=plan.data.store.fingerprint,
        seed=plan.options.seed,
        parent_run_id=session.record.parent_run_id,
        caveats=(PROTOCOLS_DIFFER, *plan.caveats),
        rows=read_rows(trials, plan.folder / TRIALS_FOLDER),
    )
    table.write(plan.folder)
    finish_tracking(
        session,
        [
            Metrics(dict(naming), plan.config.max_epochs),
            Tags({"caveats": "; ".join(table.caveats)}),
            End(),
            Artifact(str(plan.folder / PROTOCOLS_FILE)),
        ],
    )
    for line in [*table.to_lines(), "  in MLflow:", *(f"    {line}" for line in session.describe_charts())]:
        session.say(line)
    return table


def read_rows(trials: Sequence[FrozenTrial], trials_folder: Path) -> tuple[ProtocolRow, ...]:
    """Returns a row for each trial that reported a result."""
    rows = []
    for trial in trials:
        reports = read_reports(locate_trial(trials_folder, str(trial.user_attrs.get(RAY_TRIAL_ID))))
        if not reports:
            continue
        result = reports[min(reports)]
        rows.append(
            ProtocolRow(
                trial_id=trial.user_attrs[RAY_TRIAL_ID],
                name=trial.user_attrs.get(STARTING_POINT, f"trial {trial.number}"),
                protocol=result["protocol"],
                protocol_id=result["protocol_id"],
                dice=result["val_dice"],
                iou=result["val_iou"],
                floor=result["val_floor"],
                ceiling=result["val_ceiling"],
            )
        )
    return tuple(rows)
