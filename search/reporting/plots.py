"""The figures of a report, drawn by Matplotlib as SVG text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from search.reporting.data import ReportData, TrialReport
from search.reporting.svg_figures import BLUE, GRAY, GREEN, INK, RED, STATE_COLORS, WIDTH, as_svg, make_axes
from search.run_folder.finalists import Finalist
from search.run_folder.protocol_table import ProtocolRow
from search.run_folder.score_table import PairMeans
from search.space.objective import DICE
from search.space.parameters import spell_value

N_SLICES = 6


def _draw_bar(axes: Axes, bar: float, vertical: bool = False) -> None:
    if math.isfinite(bar):
        line = axes.axvline if vertical else axes.axhline
        line(bar, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=f"zero-shot {bar:.3f}", zorder=1.5)


def _scatter_trials(axes: Axes, trials: Sequence[TrialReport], xs: Sequence[float], size: float) -> None:
    """Draws a point for each trial at its best objective, in the color of its state."""
    for state, color in STATE_COLORS.items():
        mine = [(x, trial.best) for x, trial in zip(xs, trials, strict=True) if trial.state == state]
        if mine:
            places, values = zip(*mine, strict=True)
            axes.scatter(places, values, s=size, color=color, label=state, zorder=3)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Gives rows their names, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


@as_svg
def draw_trials(data: ReportData) -> Axes:
    """Draws the best objective of each trial in their order, with the best so far and the bar."""
    axes = make_axes()
    scored = [trial for trial in data.trials if math.isfinite(trial.best)]
    numbers = [trial.number for trial in scored]
    _scatter_trials(axes, scored, numbers, size=30)
    best = -math.inf
    so_far = [best := max(best, trial.best) for trial in scored]
    axes.step(numbers, so_far, where="post", color=GREEN, linewidth=1.4, label="best so far", zorder=2)
    _draw_bar(axes, data.bar)
    axes.set(xlabel="trial", ylabel=f"best {data.objective.label}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return axes


@as_svg
def draw_curves(data: ReportData) -> Axes:
    """Draws the objective of every trial over its epochs; the chosen trial, or else the best, stands out."""
    axes = make_axes()
    leading = data.chosen.trial_id if data.chosen else (data.best.trial_id if data.best else "")
    for trial in sorted(data.trials, key=lambda each: each.trial_id == leading):
        points = [(epoch, row.get(data.objective.metric, math.nan)) for epoch, row in sorted(trial.epochs.items())]
        curve = [point for point in points if math.isfinite(point[1])]
        if not curve:
            continue
        looks: dict[str, Any] = {"linewidth": 1.0, "alpha": 0.75, "markersize": 2.5, "zorder": 2}
        color, label = STATE_COLORS[trial.state], trial.state
        if trial.trial_id == leading:
            looks = {"linewidth": 2.2, "markersize": 4, "zorder": 4}
            color, label = RED, f"trial {leading}"
        axes.plot(*zip(*curve, strict=True), color=color, marker="o", label=label, **looks)
    _draw_bar(axes, data.bar)
    axes.set(xlabel="epoch", ylabel=data.objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return axes


@as_svg
def draw_importance(importance: Mapping[str, float]) -> Axes:
    """Draws each parameter's share of the objective's variance."""
    shares = sorted(importance.items(), key=lambda item: item[1])
    axes = make_axes(height=0.7 + 0.26 * len(shares))
    bars = axes.barh([name for name, _ in shares], [share for _, share in shares], color=BLUE, height=0.65)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of the variance between trials", xlim=(0, max(importance.values()) * 1.15))
    axes.grid(visible=False, axis="y")
    return axes


@as_svg
def draw_slices(data: ReportData) -> Axes:
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
    first: Axes = grid[0][0]
    return first


def _draw_slice(axes: Axes, data: ReportData, name: str) -> None:
    parameter = data.record.config["space"][name]
    trials = [trial for trial in data.scored if name in trial.params]
    n_own = sum(trial in data.trials for trial in trials)
    values = [trial.params[name] for trial in trials]
    choices = [spell_value(value) for value in parameter.get("choice", [])]
    xs = [choices.index(spell_value(value)) for value in values] if choices else values
    _scatter_trials(axes, trials[:n_own], xs[:n_own], size=22)
    if trials[n_own:]:
        rings: dict[str, Any] = {"s": 22, "facecolor": "none", "edgecolor": INK, "linewidth": 0.8, "zorder": 2.5}
        axes.scatter(xs[n_own:], [trial.best for trial in trials[n_own:]], label="earlier search", **rings)
    if choices:
        axes.set_xticks(range(len(choices)), [_shorten(text) for text in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
        if max(map(len, choices)) * len(choices) > 24:
            axes.tick_params(axis="x", labelrotation=20, labelsize=8)
    elif parameter.get("log"):
        low, high = float(parameter["low"]), float(parameter["high"])
        ticks = [low, math.sqrt(low * high), high]
        axes.set_xscale("log")
        # Matplotlib's own labels need its mathematics, which is off because names may hold dollar signs.
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    _draw_bar(axes, data.bar)
    axes.set_xlabel(name)


def _shorten(text: str, width: int = 16) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


@as_svg
def draw_pareto(data: ReportData) -> Axes:
    """Draws Dice over the number of trained parameters, and the line that no trial is above and left of."""
    axes = make_axes(height=3.6)
    trials = [trial for trial in data.trials if math.isfinite(trial.best) and trial.n_parameters > 0]
    points = {trial.trial_id: (trial.n_parameters, trial.best) for trial in trials}
    members = sorted((points[name], name) for name in data.pareto if name in points)
    others = [point for name, point in points.items() if name not in data.pareto]
    for label, mine, color in (("other trials", others, GRAY), ("Pareto set", [point for point, _ in members], BLUE)):
        if mine:
            xs, ys = zip(*mine, strict=True)
            axes.scatter(xs, ys, s=34, color=color, label=label, zorder=3)
    if members:
        line = zip(*(point for point, _ in members), strict=True)
        axes.step(*line, where="post", color=BLUE, linewidth=1.2, zorder=2)
    for point, name in members:
        axes.annotate(name, point, xytext=(5, 5), textcoords="offset points", fontsize=8)
    _draw_bar(axes, data.bar)
    axes.margins(x=0.1, y=0.12)
    sizes = [size for size, _ in points.values()]
    if sizes and max(sizes) > 10 * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    axes.set(xlabel="trained parameters", ylabel="best val Dice")
    return axes


@as_svg
def draw_seeds(data: ReportData) -> Axes:
    """Draws each finalist's trainings with new seeds, their mean, and its Dice in the search."""
    axes = make_axes(height=1.1 + 0.45 * len(data.finalists))
    for place, finalist in enumerate(data.finalists):
        scores = [run.score for run in finalist.runs if not run.failure]
        axes.scatter(scores, [place] * len(scores), s=26, color=BLUE, label="one seed", zorder=3)
        if finalist.is_complete:
            looks: dict[str, Any] = {"s": 170, "marker": "|", "linewidth": 2, "color": RED, "zorder": 4}
            axes.scatter([finalist.mean_score], [place], label="mean over seeds", **looks)
        if data.objective.metric == DICE:
            looks = {"s": 34, "facecolor": "none", "edgecolor": GRAY, "linewidth": 1.5, "zorder": 2}
            axes.scatter([finalist.search_dice], [place], label="in the search", **looks)
    _draw_bar(axes, data.bar, vertical=True)
    _name_rows(axes, [_name_finalist(finalist, data) for finalist in data.finalists])
    axes.set_xlabel(data.objective.label)
    return axes


def _name_finalist(finalist: Finalist, data: ReportData) -> str:
    is_chosen = data.chosen is not None and data.chosen.trial_id == finalist.trial_id
    ends = {"failed": not finalist.is_complete, "chosen": is_chosen, "out early": bool(finalist.out)}
    notes = [finalist.starting_point, next((end for end, holds in ends.items() if holds), "")]
    return f"trial {finalist.trial_id}" + f" ({', '.join(filter(None, notes))})" * any(notes)


@as_svg
def draw_scales(finalist: Finalist, chosen: float, label: str) -> Axes:
    """Draws the objective over scales of the update: one line per seed, and their mean."""
    axes = make_axes()
    for run in finalist.runs:
        scales = sorted(run.score_by_scale.items())
        axes.plot(*zip(*scales, strict=True), color=GRAY, linewidth=1, marker="o", markersize=3, label="one seed")
    mean = sorted(finalist.average_scores().items())
    axes.plot(*zip(*mean, strict=True), color=BLUE, linewidth=2.2, marker="o", markersize=5, label="mean over seeds")
    best = dict(mean).get(chosen)
    if best is not None:
        axes.scatter([chosen], [best], s=120, facecolor="none", edgecolor=RED, linewidth=2, label="chosen", zorder=4)
    axes.set(xlabel="scale of the update: 0 is zero-shot, 1 the fine-tune as trained", ylabel=label)
    axes.set_xticks([scale for scale, _ in mean])
    return axes


@as_svg
def draw_classes(means: PairMeans, model: str, floor_words: str) -> Axes:
    """Draws the Dice of each class, zero-shot's and a winner's if there is one, between floor and ceiling."""
    rows = [means.overall, *means.by_class.values()]
    axes = make_axes(height=1.1 + 0.42 * len(rows))
    _draw_limits(axes, [(row["floor"], row["ceiling"]) for row in rows], f"from {floor_words} to ceiling")
    places, zeroshot = range(len(rows)), [row["zeroshot"] for row in rows]
    axes.scatter(zeroshot, places, s=42, facecolor="white", edgecolor=INK, label="zero-shot", zorder=3)
    if "winner" in means.overall:
        winner = [row["winner"] for row in rows]
        axes.hlines(places, zeroshot, winner, color=RED, linewidth=1.6, zorder=2)
        axes.scatter(winner, places, s=46, color=RED, label=model, zorder=4)
    _name_rows(axes, ["all pairs", *(_shorten(name, 28) for name in means.by_class)])
    axes.set(xlabel="Dice", xlim=(0, 1))
    return axes


def _draw_limits(axes: Axes, limits: Sequence[tuple[float, float]], label: str) -> None:
    """Draws a bar from floor to ceiling in each row."""
    lefts, widths = [floor for floor, _ in limits], [ceiling - floor for floor, ceiling in limits]
    axes.barh(range(len(limits)), widths, left=lefts, height=0.5, color="#dfe5ea", label=label, zorder=1)


@as_svg
def draw_protocols(rows: Sequence[ProtocolRow]) -> Axes:
    """Draws zero-shot's Dice under several protocols, each between its own floor and ceiling."""
    axes = make_axes(height=1.1 + 0.36 * len(rows))
    _draw_limits(axes, [(row.floor, row.ceiling) for row in rows], "from floor to ceiling")
    axes.scatter([row.dice for row in rows], range(len(rows)), s=42, color=BLUE, label="zero-shot", zorder=3)
    _name_rows(axes, [_shorten(row.name, 28) for row in rows])
    axes.set(xlabel="Dice", xlim=(0, 1))
    return axes
