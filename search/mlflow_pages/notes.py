"""Notes on MLflow's screens, in Markdown."""

import json

from search.mlflow_pages.views import VIEW_TAG
from search.space.recorded_experiments import RecordedExperiment

PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
RUN_KIND_TAG = "run_kind"

EXPERIMENT_NOTE = """\
Each search is a parent run; nested in it are its trials, the measured zero-shot model and the recorded bar
(tag `run_kind`: `search`, `trial`, `zeroshot`, `recorded`).

- `val_dice`: Dice on the validation images; the run `zeroshot` is the bar in that chart.
- `val_loss`: cross-entropy plus Dice loss of the same masks before they are cut, the same for every recipe.
- `dice_minus_zeroshot`: above 0 the trial beats zero-shot SAM2 on validation.
- `bar_recorded`: 0.517, zero-shot SAM2 on the *test* images of BCSS, for orientation only.
"""

RECORDED_NOTE = """\
**Not to be ranked together: these figures were not measured under one protocol** (recorded, not measured here).

Source: the experiment log on BCSS, Dice on its 45 test images. Each run's protocol is its tag `protocol`. Zero-shot
SAM2 alone scores 0.517 under `recorded` (a box, negative points, the mask cleaned up), about 0.335 under
`centroid` (one point; known to about 0.005) and 0.566 under `box-neg+tta`. So `lora-light` (0.355) and
`box-focal` (0.372), scored under `centroid`, are below 0.517 but **above their own bar**.

- `gain_over_zeroshot`: test Dice minus that of zero-shot *under the same protocol*; empty where the log does
  not say how a run was scored (`unknown`), or holds no figure.
- `zeroshot`, `zeroshot-centroid`, `zeroshot-tta`: the bar of each protocol, gain 0.
"""

# What a shared view of MLflow's runs page shows; the page reads it from a tag of the experiment.
RECORDED_VIEW_KEY = "recorded"
RECORDED_VIEW_TAG = f"{VIEW_TAG}{RECORDED_VIEW_KEY}"
_RECORDED_COLUMNS = (
    "tags.`protocol`",
    "metrics.`test_dice`",
    "metrics.`gain_over_zeroshot`",
    "metrics.`test_iou`",
    "attributes.`Description`",
)
RECORDED_VIEW = json.dumps(
    {
        "selectedColumns": _RECORDED_COLUMNS,
        "columnOrder": _RECORDED_COLUMNS,
        "columnWidths": {"metrics.`gain_over_zeroshot`": 170, "attributes.`Description`": 330},
    }
)

ZEROSHOT_NOTE = "**The bar**: SAM2 without training, scored as every trial of this search is scored."


def describe_recorded_bar(bar: RecordedExperiment) -> str:
    """Returns the note of the recorded bar's run, in Markdown."""
    return (
        f"**Recorded, not measured here.** {bar.description}: Dice {bar.overall_dice}, IoU {bar.overall_iou} "
        f"on the {bar.split} split of {bar.dataset}, protocol `{bar.protocol}`. Drawn for orientation; the "
        "zero-shot run measured in this search is the bar that decides."
    )


def describe_recorded_experiment(experiment: RecordedExperiment) -> str:
    """Returns the note of a recorded experiment's run: its figure, and what that can be compared with.

    Plain text: the table's column `Description` shows Markdown as it is written.
    """
    dice, gain = experiment.overall_dice, experiment.compute_gain()
    if dice is None:
        return f"No figure recorded. {experiment.description}."
    if gain is None:
        text = f"Dice {dice}, but under which protocol the log does not say: not to be ranked with any other."
    elif gain == 0:
        text = f"Dice {dice}: the bar of protocol {experiment.protocol}, and of no other."
    else:
        where = "above" if gain > 0 else "below"
        text = (
            f"Dice {dice} under {experiment.protocol}: {abs(gain):.3f} {where} zero-shot under the same protocol; "
            "not to be ranked with runs of another."
        )
    place = f"Recorded on the {experiment.split} split of {experiment.dataset}, not measured here."
    return f"{text} {experiment.description}. {place}"
