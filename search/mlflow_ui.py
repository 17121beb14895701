"""What MLflow's screens show of a search: notes, names that MLflow accepts, and the address of the charts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlparse

from search.bar import RecordedExperiment

PARENT_TAG = "mlflow.parentRunId"

_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")

EXPERIMENT_NOTE = """\
Each search is a parent run; nested in it are its trials, the measured zero-shot model and the recorded bar
(tag `run_kind`: `search`, `trial`, `zeroshot`, `recorded`).

- `val_dice`: Dice on the validation images; the run `zeroshot` is the bar in that chart.
- `dice_minus_zeroshot`: above 0 the trial beats zero-shot SAM2 on validation.
- `bar_recorded`: 0.517, zero-shot SAM2 on the *test* images of BCSS, for orientation only.
"""

ZEROSHOT_NOTE = "**The bar**: SAM2 without training, scored as every trial of this search is scored."


def describe_recorded_bar(bar: RecordedExperiment) -> str:
    """Returns the note of the recorded bar's run, in Markdown."""
    return (
        f"**Recorded, not measured here.** {bar.description}: Dice {bar.overall_dice}, IoU {bar.overall_iou} "
        f"on the {bar.split} split of {bar.dataset}, protocol `{bar.protocol}`. Drawn for orientation; the "
        "zero-shot run measured in this search is the bar that decides."
    )


def compose_charts_url(
    tracking_uri: str, experiment_id: str, parent: str, ui: str = "http://127.0.0.1:5000"
) -> str:
    """Returns the address of the charts of a search's runs, best first.

    MLflow's own landing page shows a search as one folded row, whose charts stay empty until it is unfolded.

    Args:
        tracking_uri: The store; a tracking server has its own address.
        experiment_id: MLflow's id of the experiment.
        parent: Run id of the search.
        ui: Where the UI of a local store will run, by default where `mlflow ui` starts it.
    """
    base = tracking_uri if urlparse(tracking_uri).scheme in ("http", "https") else ui
    query = {
        "workflowType": "machine_learning",
        "compareRunsMode": "CHART",
        "searchFilter": f"tags.`{PARENT_TAG}` = '{parent}'",
        "orderByKey": "metrics.`best_val_dice`",  # sorted by a metric, MLflow unfolds nested runs
        "orderByAsc": "false",
    }
    fragment = f"/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote)}"
    return f"{hide_password(base.rstrip('/'))}/#{fragment}"


def flatten_params(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Returns nested mappings as one, with dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten_params(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def clean_name(name: str) -> str:
    """Returns the name with what MLflow does not allow as underscores, and at most 250 characters long."""
    return _NOT_IN_NAMES.sub("_", name)[:250]


def hide_password(uri: str) -> str:
    """Returns the URI with the password in it, if any, as asterisks."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)
