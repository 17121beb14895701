"""The first trials of a search, drawn by its own sampler from its own seed into a study that is thrown away."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.plan.search_plan import SearchPlan
from search.space.parameters import spell_value
from search.stages.trials import make_searcher
from search.study.study_file import plan_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT, read_trials
from trainables.recipe import Scalar

_A_ROW = 5  # trials beside each other: they fit a narrow terminal


@dataclass(frozen=True)
class FirstTrial:
    """A trial as the sampler draws it, by flat names, and its starting point's name; empty if it is sampled."""

    values: Mapping[str, Scalar]
    starting_point: str


def draw_trials(plan: SearchPlan, number: int) -> list[FirstTrial]:
    """Returns the first trials as they are drawn before any has ended, starting points included.

    The search draws the same ones, until enough trials have ended for its sampler to learn from them.
    """
    with tempfile.TemporaryDirectory() as name:
        study_file = plan_study_file(Path(name), plan.name, plan.config.to_dict(), plan.options.seed)
        if plan.warm_start.notes:
            plan.warm_start.give_to(study_file, plan.config.num_trials)
        searcher = make_searcher(plan.config, study_file)
        for at in range(min(number, plan.config.num_trials)):
            searcher.suggest(f"trial-{at}")
        asked = [trial for trial in read_trials(study_file) if RAY_TRIAL_ID in trial.user_attrs]
    return [FirstTrial(dict(trial.params), str(trial.user_attrs.get(STARTING_POINT, ""))) for trial in asked]


def tabulate_trials(trials: Sequence[FirstTrial], names: Sequence[str]) -> list[str]:
    """Returns lines of a table, a parameter a row and a trial a column; a dash stands where one does not apply."""
    lines = []
    for start in range(0, len(trials), _A_ROW):
        block = trials[start : start + _A_ROW]
        columns = [list(names)] + [
            [spell_value(trial.values.get(name, "-"), ".3g") for name in names] for trial in block
        ]
        heads = ["trial"] + [trial.starting_point or str(start + at) for at, trial in enumerate(block)]
        widths = [max(len(cell) for cell in [head, *column]) for head, column in zip(heads, columns, strict=True)]
        for cells in [heads, *zip(*columns, strict=True)]:
            padded = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
            lines.append("  ".join(["", cells[0].ljust(widths[0]), *padded]))
        lines.append("")
    return lines[:-1]
