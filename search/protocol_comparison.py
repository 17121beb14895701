"""The end of a search that trains nothing: zero-shot under each trial's protocol, side by side and unranked."""

from __future__ import annotations

from search.mlflow_ui import compose_charts_url
from search.protocol_space import PROTOCOLS_DIFFER
from search.protocol_table import PROTOCOLS_FILE, ProtocolTable, list_caveats, read_rows
from search.record import TRIALS_FOLDER, make_study_file
from search.results import read_trials
from search.runner import run_protocols
from search.session import Session


def compare_protocols(session: Session) -> ProtocolTable:
    """Scores zero-shot under the trials' protocols: nothing is chosen, no test opened, nothing exported."""
    plan = session.plan
    session.say(PROTOCOLS_DIFFER)
    run_protocols(session)
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
    session.track(lambda: session.tracker.log_artifact(parent, plan.folder / PROTOCOLS_FILE))
    session.track(lambda: session.tracker.set_tags(parent, {"caveats": "; ".join(table.caveats)}))
    session.track(lambda: session.tracker.finish(parent))
    for line in table.to_lines():
        session.say(line)
    session.say(f"  in MLflow: {compose_charts_url(session.tracker.uri, session.tracker.experiment_id, parent)}")
    return table
