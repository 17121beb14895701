"""The outcome of a search on MLflow's screens: the note of its run, and its leaderboard."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.judging.verdict import Verdict
from search.run_folder.finalists import Finalist
from search.run_folder.summary import Summary
from search.study.ranking import RankedTrial

LEADERBOARD_FILE = "leaderboard.json"
_WHERE = """\
| what | where |
|---|---|
| charts of all trials with both bars | menu *Views* of the page of runs, under this search's name |
| everything on one page | artifact `report.html` |
| trials, best first | artifact `leaderboard.json` |
| the verdict by class | artifact `verdict.txt` |
| weights, adapter and model card | artifacts `export/` of the winner's run |
| what the masks look like | artifacts `overlays/` |
| the model for `mlflow.pyfunc` | the tag `registered_model`; none where `sam2.pt` cannot hold the model |
"""


def describe_outcome(summary: Summary, verdict: Verdict) -> str:
    """Returns the note of the search's run, in Markdown: the verdict first."""
    chosen, bar, test, found = summary.chosen, summary.bar, summary.test, verdict.overall
    facts = [f"{found.mean_difference:+.3f}"]
    if interval := found.strict_interval or found.interval:
        facts.append(f"{100 * interval.confidence:.4g} % interval {interval.low:+.3f} to {interval.high:+.3f}")
    facts.append(f"signed-rank p = {found.p_value:.2g} over {found.n_patients} patients")
    gain = chosen.val_dice - bar.dice
    lines = [
        f"## Zero-shot is {verdict.word}",
        f"On test: {', '.join(facts)}; because {verdict.reason}.",
        "| Dice | winner | zero-shot | gain |\n|---|---|---|---|\n"
        f"| validation | {chosen.val_dice:.3f} | {bar.dice:.3f} | {gain:+.3f} |\n"
        f"| test | {test.dice:.3f} | {test.zeroshot_dice:.3f} | {test.dice - test.zeroshot_dice:+.3f} |",
        *summary.describe_choice(),
        *(f"**Made with {demo}**" for demo in [summary.origin.demo] if demo),
        *(f"**{caveat}**" for caveat in summary.origin.caveats),
        _WHERE,
    ]
    return "\n\n".join(lines)


def make_leaderboard(
    ranked: Sequence[RankedTrial],
    numbers: Mapping[str, int],
    finalists: Sequence[Finalist],
    bar: float,
    parameters: Sequence[str],
) -> tuple[list[str], list[list[Any]]]:
    """Returns columns and rows of the trials with a checkpoint, best first; ``numbers`` are those of the trials."""
    over_seeds = {each.trial_id: each.mean_score for each in finalists if each.is_complete}
    columns = ["rank", "trial", "id", "epoch", "val_dice", "minus_zeroshot", "mean_over_seeds", "trained_parameters"]
    rows = []
    for rank, each in enumerate(ranked, start=1):
        size = None if math.isnan(each.trained_parameters) else int(each.trained_parameters)
        dice = [round(each.val_dice, 4), round(each.val_dice - bar, 4)]
        seeds = round(over_seeds[each.trial_id], 4) if each.trial_id in over_seeds else None
        values = [each.params.get(name) for name in parameters]
        rows.append([rank, numbers.get(each.trial_id), each.trial_id, each.epoch, *dice, seeds, size, *values])
    return [*columns, *parameters], rows
