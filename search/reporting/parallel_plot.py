"""Parallel coordinates: one line a trial, from its parameters to its score."""

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from search.reporting.data import ReportData
from search.reporting.svg_figures import BLUE, GRAY, INK, as_svg, make_axes
from search.space.parameters import spell_value

N_COORDINATES = 7
BEST_SHARE = 0.2


@as_svg
def draw_parallel(data: ReportData) -> Axes:
    """Draws the trials with a score over the main parameters, the most important first; the best fifth stands out."""
    names = data.main_parameters[:N_COORDINATES]
    trials = sorted(data.scored, key=lambda trial: trial.best)
    n_best = max(1, round(BEST_SHARE * len(trials)))
    low, high = trials[0].best, trials[-1].best
    parameters = [data.record.config["space"][name] for name in names]
    axes = make_axes(height=3.8)
    for rank, trial in enumerate(trials, start=1 - len(trials)):  # the last one is the best
        is_best = rank > -n_best
        ys = [
            _place(parameter, trial.params[name]) if name in trial.params else math.nan
            for name, parameter in zip(names, parameters, strict=True)
        ]
        looks: dict[str, Any] = {"color": GRAY, "linewidth": 0.7, "alpha": 0.6, "label": "other trials"}
        if is_best:
            looks = {"color": BLUE, "linewidth": 1.6, "zorder": 3, "label": "best fifth"}
        axes.plot([*ys, (trial.best - low) / (high - low or 1)], **looks)
    for place, parameter in enumerate(parameters):
        _draw_scale(axes, place, _list_ticks(parameter))
    _draw_scale(axes, len(names), {0.0: f"{low:.3f}", 1.0: f"{high:.3f}"})
    axes.set_xticks(range(len(names) + 1), [*(name.replace(".", "\n", 1) for name in names), data.objective.label])
    axes.set(xlim=(-0.1, len(names) + 0.35), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)
    return axes


def _place(parameter: Mapping[str, Any], value: Any) -> float:
    """Returns where a value lies between the ends of its parameter, 0 to 1."""
    if choices := [spell_value(choice) for choice in parameter.get("choice", [])]:
        return choices.index(spell_value(value)) / (len(choices) - 1)
    low, high = float(parameter["low"]), float(parameter["high"])
    if parameter.get("log"):
        return math.log(value / low) / math.log(high / low)
    return (float(value) - low) / (high - low)


def _list_ticks(parameter: Mapping[str, Any]) -> dict[float, str]:
    """Returns the texts beside a coordinate by their places: all choices, or both ends."""
    values = parameter.get("choice") or [parameter["low"], parameter["high"]]
    return {_place(parameter, value): spell_value(value, ".3g") for value in values}


def _draw_scale(axes: Axes, place: int, ticks: Mapping[float, str]) -> None:
    axes.axvline(place, color=INK, linewidth=1, zorder=4)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    for height, text in ticks.items():
        axes.text(place + 0.04, height, text, fontsize=7.5, va="center", zorder=5, bbox=box)
