"""A comparator as a run of its own, nested in a search's, so that its charts draw it among the trials' curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.bar_runs import log_constants
from search.mlflow_ui import NOTE_TAG, RUN_KIND_TAG
from search.record import SearchRecord
from search.tracking import Tracker
from trainables.file_hash import hash_file
from trainables.sam2_trainable import flatten_scores

if TYPE_CHECKING:
    from search.compare import Comparison

RUN_KIND = "comparator"


def log_comparison(record: SearchRecord, found: Comparison) -> str:
    """Logs a comparator as a run nested in the search's, beside its trials, and returns its run id.

    The same weights under the same name are one run: a second call writes the same figures again.

    Raises:
        SearchError: If MLflow's store cannot be used, or does not hold the search's run.
    """
    tracker, parent = Tracker.connect(record.experiment, default_uri=record.tracking_uri), record.parent_run_id
    tracker.read_start_ms(parent)  # fails where the store is another: no orphan is left there
    scores, protocol = found.scores, found.scores.protocol
    identity = {RUN_KIND_TAG: RUN_KIND, "comparator": found.name, "weights_sha256": hash_file(found.weights)[:12]}
    tags = {
        "model": found.size,
        "weights": found.weights.name,
        "split": "val",
        "protocol": protocol.name,
        "protocol_id": protocol.id,
        "data_fingerprint": record.data_fingerprint,
        "demo": record.demo or "no",
        "caveats": "; ".join((*found.caveats, *record.caveats)),
        NOTE_TAG: f"**A comparator**: {found.name}, not trained here, scored on validation as every trial is.",
    }
    run_id = tracker.find_child(parent, identity)
    if run_id is None:
        run_id = tracker.start_child(parent, found.name, RUN_KIND, {**tags, **identity})
    figures = {
        **flatten_scores(scores, "val"),
        "val_floor": scores.floor,
        "val_ceiling": scores.ceiling,
        "dice_minus_zeroshot": found.verdict.overall.mean_difference,
    }
    log_constants(tracker, run_id, figures, int(record.context["max_epochs"]))
    tracker.log_artifact(run_id, found.file)
    tracker.log_text(run_id, found.verdict.to_text(), "verdict_val.txt")
    tracker.finish(run_id)
    return run_id
