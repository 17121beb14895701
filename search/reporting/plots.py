"""The figures of a report, drawn by Matplotlib as SVG text."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from search.reporting.data import ReportData, TrialReport, count_parameters
from search.run_folder.finalists import Finalist
from search.run_folder.score_table import PairMeans
from search.space.objective import DICE

# Okabe and Ito's colors, told apart by color-blind readers.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
GRAY, INK = "#98a2ad", "#2f3a45"
STATE_COLORS = {"complete": BLUE, "stopped": GRAY, "failed": RED, "unfinished": ORANGE}
N_SLICES = 6
WIDTH = 10.4  # inches: as wide as the page

# Matplotlib types its settings as a dictionary of some 300 literal keys.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRAY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",  # looks the same on every machine
    "svg.hashsalt": "report",  # and gives the same file again
}

P = ParamSpec("P")


def _as_svg(draw: Callable[P, Figure]) -> Callable[P, str]:
    """Makes a function that draws a figure return it as SVG text, in the report's style."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
        with matplotlib.rc_context(_STYLE):
            figure, buffer = draw(*args, **kwargs), io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    return drawn


def _make_axes(height: float = 3.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _draw_bar(axes: Axes, bar: float, vertical: bool = False) -> None:
    if math.isfinite(bar):
        line = axes.axvline if vertical else axes.axhline
        line(bar, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=f"zero-shot {bar:.3f}", zorder=1.5)


def _draw_legend(figure: Figure, axes: Axes) -> None:
    """Puts the legend beside the axes, where it covers no point."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper")


@_as_svg
def draw_trials(data: ReportData) -> Figure:
    """Draws the best objective of each trial in their order, with the best so far and the bar."""
    figure, axes = _make_axes()
    scored = [trial for trial in data.trials if math.isfinite(trial.best)]
    for state in ("complete", "stopped", "unfinished", "failed"):
        mine = [trial for trial in scored if trial.state == state]
        if mine:
            xs, ys = [trial.number for trial in mine], [trial.best for trial in mine]
            axes.scatter(xs, ys, s=30, color=STATE_COLORS[state], label=state, zorder=3)
    best = -math.inf
    so_far = [best := max(best, trial.best) for trial in scored]
    numbers = [trial.number for trial in scored]
    axes.step(numbers, so_far, where="post", color=GREEN, linewidth=1.4, label="best so far", zorder=2)
    _draw_bar(axes, data.bar)
    axes.set(xlabel="trial", ylabel=f"best {data.objective.label}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _draw_legend(figure, axes)
    return figure


@_as_svg
def draw_curves(data: ReportData) -> Figure:
    """Draws the objective of every trial over its epochs; the chosen trial, or else the best, stands out."""
    figure, axes = _make_axes()
    leading = data.chosen.trial_id if data.chosen else (data.best.trial_id if data.best else "")
    told: set[str] = set()
    for trial in sorted(data.trials, key=lambda each: each.trial_id == leading):
        curve = _list_curve(trial, data.objective.metric)
        if not curve:
            continue
        is_leading = trial.trial_id == leading
        color = RED if is_leading else STATE_COLORS[trial.state]
        label = f"trial {leading}" if is_leading else trial.state
        axes.plot(
            *zip(*curve, strict=True),
            color=color,
            linewidth=2.2 if is_leading else 1.0,
            alpha=1.0 if is_leading else 0.75,
            marker="o",
            markersize=4 if is_leading else 2.5,
            label=None if label in told else label,
            zorder=4 if is_leading else 2,
        )
        told.add(label)
    _draw_bar(axes, data.bar)
    axes.set(xlabel="epoch", ylabel=data.objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _draw_legend(figure, axes)
    return figure


def _list_curve(trial: TrialReport, metric: str) -> list[tuple[int, float]]:
    points = [(epoch, row.get(metric, math.nan)) for epoch, row in sorted(trial.epochs.items())]
    return [point for point in points if math.isfinite(point[1])]


@_as_svg
def draw_importance(importance: Mapping[str, float]) -> Figure:
    """Draws each parameter's share of the objective's variance."""
    shares = sorted(importance.items(), key=lambda item: item[1])
    figure, axes = _make_axes(height=0.7 + 0.26 * len(shares))
    bars = axes.barh([name for name, _ in shares], [share for _, share in shares], color=BLUE, height=0.65)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of the variance between whole trials", xlim=(0, max(importance.values()) * 1.15))
    axes.grid(visible=False, axis="y")
    return figure


@_as_svg
def draw_slices(data: ReportData) -> Figure:
    """Draws the best objective of each trial over its value of each main parameter."""
    names = data.main_parameters[:N_SLICES]
    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(WIDTH, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_slice(axes, data, name)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(f"best {data.objective.label}")
    handles, labels = grid[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _draw_slice(axes: Axes, data: ReportData, name: str) -> None:
    parameter = data.record.config["space"][name]
    trials = [trial for trial in data.trials if name in trial.params and math.isfinite(trial.best)]
    choices = [spell_value(value) for value in parameter.get("choice", [])]
    for state in ("complete", "stopped", "unfinished", "failed"):
        mine = [trial for trial in trials if trial.state == state]
        values = [trial.params[name] for trial in mine]
        xs = [choices.index(spell_value(value)) for value in values] if choices else values
        if mine:
            axes.scatter(xs, [trial.best for trial in mine], s=22, color=STATE_COLORS[state], label=state, zorder=3)
    if choices:
        axes.set_xticks(range(len(choices)), [_shorten(text) for text in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
        if max(map(len, choices)) * len(choices) > 24:
            axes.tick_params(axis="x", labelrotation=20, labelsize=8)
    elif parameter.get("log"):
        low, high = float(parameter["low"]), float(parameter["high"])
        _use_log_scale(axes, [low, math.sqrt(low * high), high], lambda tick: f"{tick:.2g}")
    _draw_bar(axes, data.bar)
    axes.set_xlabel(name)


def _use_log_scale(axes: Axes, ticks: Sequence[float], write: Callable[[float], str]) -> None:
    axes.set_xscale("log")
    # Matplotlib's own labels need its mathematics, which is off as names may hold dollar signs.
    axes.set_xticks(ticks, [write(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def spell_value(value: object) -> str:
    """Returns a parameter's value as a space file says it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shorten(text: str, width: int = 16) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


@_as_svg
def draw_pareto(data: ReportData) -> Figure:
    """Draws Dice over the number of trained parameters, and the line that no trial is above and left of."""
    figure, axes = _make_axes(height=3.6)
    trials = [trial for trial in data.trials if math.isfinite(trial.best) and count_parameters(trial) > 0]
    others = [trial for trial in trials if trial.trial_id not in data.pareto]
    members = sorted((trial for trial in trials if trial.trial_id in data.pareto), key=count_parameters)
    for label, mine, color in (("other trials", others, GRAY), ("Pareto set", members, BLUE)):
        if mine:
            axes.scatter(
                [count_parameters(trial) for trial in mine],
                [trial.best for trial in mine],
                s=34,
                color=color,
                label=label,
                zorder=3,
            )
    if members:
        line = [count_parameters(trial) for trial in members], [trial.best for trial in members]
        axes.step(*line, where="post", color=BLUE, linewidth=1.2, zorder=2)
    for trial in members:
        where = (count_parameters(trial), trial.best)
        axes.annotate(trial.trial_id, where, xytext=(5, 5), textcoords="offset points", fontsize=8)
    _draw_bar(axes, data.bar)
    sizes = [count_parameters(trial) for trial in trials]
    if sizes and max(sizes) > 10 * min(sizes):
        decades = range(math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes))) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in (1, 3)]
        inside = [tick for tick in ticks if min(sizes) / 1.5 <= tick <= max(sizes) * 1.5]
        _use_log_scale(axes, inside, lambda tick: f"{tick:,.0f}")
    else:
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    axes.margins(x=0.1, y=0.12)
    axes.set(xlabel="trained parameters", ylabel="best val Dice")
    _draw_legend(figure, axes)
    return figure


@_as_svg
def draw_seeds(data: ReportData) -> Figure:
    """Draws each finalist's trainings with new seeds, their mean, and what it had in the search."""
    finalists, is_dice = data.finalists, data.objective.metric == DICE
    figure, axes = _make_axes(height=1.1 + 0.45 * len(finalists))
    names = [f"trial {each.trial_id}" + _name_part(each, data) for each in finalists]
    for place, finalist in enumerate(finalists):
        scores = [run.score for run in finalist.runs if not run.failure]
        first = place == 0
        axes.scatter(scores, [place] * len(scores), s=26, color=BLUE, label="one seed" if first else None, zorder=3)
        if finalist.is_complete:
            label, mean = "mean over seeds" if first else None, [finalist.mean_score]
            axes.scatter(mean, [place], s=170, marker="|", linewidth=2, color=RED, label=label, zorder=4)
        if is_dice:
            label = "in the search" if first else None
            found = [finalist.search_dice]
            axes.scatter(found, [place], s=34, facecolor="none", edgecolor=GRAY, linewidth=1.5, label=label, zorder=2)
    _draw_bar(axes, data.bar, vertical=True)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(data.objective.label)
    _draw_legend(figure, axes)
    return figure


def _name_part(finalist: Finalist, data: ReportData) -> str:
    if not finalist.is_complete:
        return " (failed)"
    return " (chosen)" if data.chosen and data.chosen.trial_id == finalist.trial_id else ""


@_as_svg
def draw_scales(finalist: Finalist, chosen: float, label: str) -> Figure:
    """Draws what scales of the update yield: one line a seed, and their mean.

    Args:
        finalist: Whose scales were measured.
        chosen: The scale that was chosen.
        label: Of the objective.
    """
    figure, axes = _make_axes()
    for index, run in enumerate(finalist.runs):
        scales = sorted(run.score_by_scale)
        values = [run.score_by_scale[scale] for scale in scales]
        label_once = None if index else "one seed"
        axes.plot(scales, values, color=GRAY, linewidth=1, marker="o", markersize=3, label=label_once)
    mean = sorted(finalist.average_scores().items())
    axes.plot(*zip(*mean, strict=True), color=BLUE, linewidth=2.2, marker="o", markersize=5, label="mean over seeds")
    best = dict(mean).get(chosen)
    if best is not None:
        axes.scatter([chosen], [best], s=120, facecolor="none", edgecolor=RED, linewidth=2, label="chosen", zorder=4)
    axes.set(xlabel="scale of the update: 0 is zero-shot, 1 the fine-tune as trained", ylabel=label)
    axes.set_xticks([scale for scale, _ in mean])
    _draw_legend(figure, axes)
    return figure


@_as_svg
def draw_classes(means: PairMeans, model: str, floor_words: str) -> Figure:
    """Draws each class's Dice, zero-shot's and the model's, between floor and ceiling.

    Args:
        means: By class, with a column ``zeroshot``, perhaps one ``winner``, ``floor`` and ``ceiling``.
        model: What the winner is called.
        floor_words: What the floor is.
    """
    rows: list[tuple[str, Mapping[str, float]]] = [("all pairs", means.overall), *means.by_class.items()]
    figure, axes = _make_axes(height=1.1 + 0.42 * len(rows))
    for place, (_, row) in enumerate(rows):
        first = place == 0
        limits = f"from {floor_words} to ceiling" if first else None
        width = row["ceiling"] - row["floor"]
        axes.barh(place, width, left=row["floor"], height=0.5, color="#dfe5ea", label=limits, zorder=1)
        if "winner" in row:
            axes.plot([row["zeroshot"], row["winner"]], [place, place], color=RED, linewidth=1.6, zorder=2)
        label = "zero-shot" if first else None
        axes.scatter([row["zeroshot"]], [place], s=42, facecolor="white", edgecolor=INK, label=label, zorder=3)
        if "winner" in row:
            axes.scatter([row["winner"]], [place], s=46, color=RED, label=model if first else None, zorder=4)
    axes.set_yticks(range(len(rows)), [_shorten(name, 28) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="Dice", xlim=(0, 1))
    _draw_legend(figure, axes)
    return figure


@_as_svg
def draw_protocols(names: Sequence[str], dice: Sequence[float], limits: Sequence[tuple[float, float]]) -> Figure:
    """Draws zero-shot's Dice under several protocols, each between its own floor and ceiling.

    Args:
        names: One a protocol.
        dice: Zero-shot's, one a protocol.
        limits: Floor and ceiling of each.
    """
    figure, axes = _make_axes(height=1.1 + 0.36 * len(names))
    for place, (floor, ceiling) in enumerate(limits):
        label = None if place else "from floor to ceiling"
        axes.barh(place, ceiling - floor, left=floor, height=0.5, color="#dfe5ea", label=label, zorder=1)
    axes.scatter(dice, range(len(names)), s=42, color=BLUE, label="zero-shot", zorder=3)
    axes.set_yticks(range(len(names)), [_shorten(name, 28) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="Dice", xlim=(0, 1))
    _draw_legend(figure, axes)
    return figure
