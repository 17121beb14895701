"""The end of a search that trains nothing: zero-shot under each trial's protocol, side by side and unranked."""

from __future__ import annotations

from collections.abc import Mapping

from search.closing import finish_tracking
from search.mlflow_ui import compose_charts_url
from search.protocol_table import PROTOCOLS_FILE, ProtocolTable, list_caveats, read_rows
from search.record import TRIALS_FOLDER, make_study_file
from search.results import read_trials
from search.session import Session


def compare_protocols(session: Session, naming: Mapping[str, float]) -> ProtocolTable:
    """Sets zero-shot's scores beside each other: nothing is chosen, no test opened, nothing exported.

    Args:
        session: The search, its trials ended.
        naming: Figures of naming the zero-shot masks; none where they were not named.
    """
    plan = session.plan
    trials = read_trials(make_study_file(plan.folder, session.record))
    parent = session.record.parent_run_id
    table = ProtocolTable(
        search_id=plan.name,
        demo=plan.demo_words,
        data_fingerprint=plan.store.fingerprint,
        seed=plan.seed,
        parent_run_id=parent,
        caveats=list_caveats(plan.caveats),
        rows=read_rows(trials, plan.folder / TRIALS_FOLDER),
    )
    table.write(plan.folder)
    finish_tracking(
        session,
        [
            {"event": "metrics", "metrics": dict(naming), "step": plan.config.max_epochs},
            {"event": "tags", "tags": {"caveats": "; ".join(table.caveats)}},
            {"event": "finish"},
            {"event": "artifact", "path": str(plan.folder / PROTOCOLS_FILE), "into": None},
        ],
    )
    for line in table.to_lines():
        session.say(line)
    session.say(f"  in MLflow: {compose_charts_url(session.tracker.uri, session.tracker.experiment_id, parent)}")
    return table
