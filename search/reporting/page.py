"""The report: one HTML page with verdict, leaderboard, plots and overlays, images inside."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from search.errors import ConfigError, SearchError
from search.judging.verdict import ClassComparison
from search.reporting.data import MIN_WHOLE_TRIALS, ReportData, TrialReport, add_leading, count_parameters
from search.reporting.html import Markup, join, make_table, show_picture, show_svg, tag, wrap_page
from search.reporting.plots import (
    draw_classes,
    draw_curves,
    draw_importance,
    draw_pareto,
    draw_protocols,
    draw_scales,
    draw_seeds,
    draw_slices,
    draw_trials,
    spell_value,
)
from search.space.objective import DICE
from trainables.errors import Finding
from trainables.files.whole_file import write_whole

N_COLUMNS = 5  # of parameters in the leaderboard
_VERDICTS = {
    "beaten": ("Yes: zero-shot is beaten", "verdict beaten"),
    "not beaten": ("No: zero-shot is not beaten", "verdict lost"),
    "undecided": ("Undecided", "verdict"),
}



def render_page(data: ReportData) -> str:
    """Returns the report as one HTML document."""
    sections = [
        _show_head(data),
        _show_caveats(data.caveats),
        _show_protocols(data) if not data.trains else join([_show_verdict(data), _show_classes(data)]),
        *([_show_trials(data), _show_parameters(data), _show_pareto(data)] if data.trains else []),
        _show_confirmation(data),
        _show_overlays(data.folder),
        _show_origin(data),
    ]
    return wrap_page(f"{data.record.search_id} - search report", *sections)


def _show_head(data: ReportData) -> Markup:
    record, config = data.record, data.record.config
    model = record.context.model
    facts = [
        ("space", f"{config['name']}: {config['description']}" if config.get("description") else config["name"]),
        ("model", f"SAM2 {model} ({Path(record.context.checkpoint or 'shipped weights').name})"),
        ("data", f"fingerprint {record.data_fingerprint}; {record.split_description}"),
        ("protocol", data.protocol.describe()),
        *([("optimized", data.objective.describe())] if data.trains else []),
        ("seed", str(record.context.seed)),
    ]
    rows = [tag("tr", tag("th", name), tag("td", told, class_="wide")) for name, told in facts]
    what = "A search for a fine-tune of SAM2 that beats zero-shot SAM2" if data.trains else "Zero-shot SAM2 by protocol"
    return join([tag("h1", record.search_id), tag("p", what, class_="soft"), tag("table", tag("tbody", *rows))])


def _show_caveats(caveats: Sequence[str]) -> Markup:
    if not caveats:
        return Markup()
    items = [tag("li", caveat) for caveat in caveats]
    return tag("div", tag("strong", "Read this first"), tag("ul", *items), class_="caveats")


def _show_verdict(data: ReportData) -> Markup:
    summary = data.summary
    parts: list[str] = [tag("h2", "Does the winner beat zero-shot?")]
    if summary is None:
        parts.append(tag("p", "Not known yet: the test regions are opened once, at the end of the search."))
        if data.best is not None:
            parts.append(tag("p", _describe_leading(data, data.best)))
        return join(parts)
    said, looks = _VERDICTS.get(summary.verdict, (summary.verdict, "verdict"))
    reason = f" Because {data.verdict.reason}." if data.verdict else ""
    parts.append(tag("div", tag("b", said), tag("p", f"On the test regions, by Dice.{reason}"), class_=looks))
    val_limits, test_limits = (summary.val_floor, summary.val_ceiling), _find_test_limits(data)
    cells = [
        _list_dice("validation", summary.val_dice, summary.zeroshot_val_dice, val_limits),
        _list_dice("test", summary.test_dice, summary.zeroshot_test_dice, test_limits),
    ]
    titles = ["Dice", "winner", "zero-shot", "difference", f"floor ({data.protocol.floor_words})", "ceiling"]
    parts.append(make_table(titles, cells, numbers=range(1, 6)))
    parts += [tag("p", line.strip()) for line in summary.describe_choice()]
    parts.append(tag("p", _describe_recorded(data), class_="soft"))
    if data.verdict is not None:
        parts.append(tag("details", tag("summary", "all figures of the verdict"), tag("pre", data.verdict.to_text())))
    return join(parts)


def _list_dice(name: str, winner: float, zeroshot: float, limits: tuple[float, float]) -> list[str]:
    return [name, _format(winner), _format(zeroshot), _format_gain(winner - zeroshot), *map(_format, limits)]


def _describe_leading(data: ReportData, best: TrialReport) -> str:
    told = f"So far trial {best.trial_id} leads on validation: {data.objective.label} {best.best:.3f}"
    return f"{told} against {data.bar:.3f} of zero-shot." if math.isfinite(data.bar) else f"{told}."


def _describe_recorded(data: ReportData) -> str:
    assert data.summary is not None
    bar = data.summary.bar_recorded
    if data.summary.bar_recorded_comparable:
        return f"The recorded bar on the same test set is {bar}."
    return f"The recorded bar {bar} was measured elsewhere: SAM2.1 Hiera-L on the BCSS test set. Do not compare."


def _find_test_limits(data: ReportData) -> tuple[float, float]:
    """Returns floor and ceiling, averaged as the Dice beside them is: without prompts over the classes."""
    if data.test is None:
        return math.nan, math.nan
    means = [*data.test.by_class.values()] if data.protocol.is_auto else [data.test.overall]
    floor, ceiling = (sum(each[name] for each in means) / len(means) for name in ("floor", "ceiling"))
    return floor, ceiling


def _show_classes(data: ReportData) -> Markup:
    means, where = (data.test, "test") if data.test else (add_leading(data), "validation")
    if means is None:
        return Markup()
    caption = f"Dice by class on {where}, mean over its (image, class) pairs; {means.n_pairs} pairs in all."
    if data.protocol.is_auto:
        caption += " Nothing is prompted: the overall Dice pools pixels and is not the mean that is shown here."
    leading = data.chosen.trial_id if data.chosen and data.test else (data.best.trial_id if data.best else "")
    model = f"winner, trial {leading}" if data.test else f"trial {leading}, which leads so far"
    figure = show_svg(draw_classes(means, model, data.protocol.floor_words), "Dice by class", caption)
    titles = ["class", *(name for name in ("winner", "zeroshot", "floor", "ceiling") if name in means.overall)]
    compared = data.verdict.per_class if data.verdict else {}
    cells = [
        [name, *(_format(row[title]) for title in titles[1:]), *_compare_class(compared.get(name))]
        for name, row in means.by_class.items()
    ]
    words = {"zeroshot": "zero-shot", "winner": "winner" if data.test else "leads so far"}
    titles = [words.get(title, title) for title in titles]
    titles += ["difference, 95 % interval", "p (Holm)"] if compared else []
    table = make_table(titles, cells, numbers=range(1, len(titles)))
    return join([tag("h2", "By class"), figure, table])


def _compare_class(found: ClassComparison | None) -> list[str]:
    if found is None:
        return []
    difference, interval = found.comparison.mean_difference, found.comparison.interval
    bounds = f" ({interval.low:+.3f} to {interval.high:+.3f})" if interval else ""
    return [f"{difference:+.3f}{bounds}", f"{found.p_value_holm:.2g}"]


def _show_trials(data: ReportData) -> Markup:
    parts: list[str] = [tag("h2", "Trials")]
    if any(math.isfinite(trial.best) for trial in data.trials):
        caption = "Every trial at its best epoch. Trials that were stopped early had fewer epochs to get there."
        parts.append(show_svg(draw_trials(data), "objective by trial", caption))
        caption = f"The {data.objective.label} of every trial over its epochs."
        parts.append(show_svg(draw_curves(data), "learning curves", caption))
    parts.append(_make_leaderboard(data) if data.trials else tag("p", "No trial has started yet."))
    return join(parts)


def _make_leaderboard(data: ReportData) -> Markup:
    names = data.main_parameters[:N_COLUMNS]
    ranked = sorted(data.trials, key=lambda trial: (-trial.best if trial.best_epoch else math.inf, trial.number))
    is_dice, is_pair = data.objective.metric == DICE, data.objective.is_pair
    titles = ["rank", "trial", "state", "epochs", "best epoch", f"best {data.objective.label}", "vs zero-shot"]
    titles += [*([] if is_dice else ["val Dice"]), *(["trained parameters"] if is_pair else [])]
    titles += [join([*name.partition(".")[:2], tag("br"), name.partition(".")[2]]) for name in names]
    titles += ["note"] if any(trial.name or trial.reason for trial in ranked) else []
    rows = []
    for rank, trial in enumerate(ranked, start=1):
        row = [str(rank) if trial.best_epoch else "", f"{trial.number}: {trial.trial_id}", trial.state]
        row += [str(len(trial.epochs)), str(trial.best_epoch or "")]
        row += [_format(trial.best), _format_gain(trial.best - data.bar)]
        row += [] if is_dice else [_format(trial.read_best(DICE))]
        row += [_format_count(count_parameters(trial))] if is_pair else []
        row += [_format_value(trial.params.get(name, "")) for name in names]
        note = "; ".join(filter(None, [trial.name, trial.reason]))
        rows.append([*row, note][: len(titles)])
    chosen = data.chosen.trial_id if data.chosen else None
    leading = [index for index, trial in enumerate(ranked) if trial.trial_id == chosen]
    told = "The marked trial's configuration was chosen. " if leading else ""
    told += "Figures of the search are optimistic: the best of many trials on the same regions is partly luck."
    left_out = len(data.main_parameters) - len(names)
    told += f" {left_out} more parameters are in the study." if left_out else ""
    numbers = [0, *range(3, len(titles) - (titles[-1] == "note"))]
    wide = [len(titles) - 1] if titles[-1] == "note" else []
    table = make_table(titles, rows, numbers, leading, wide)
    return join([tag("h3", "Leaderboard"), tag("p", told, class_="soft"), table])


def _show_parameters(data: ReportData) -> Markup:
    if not data.main_parameters or not any(math.isfinite(trial.best) for trial in data.trials):
        return Markup()
    whole = sum(trial.state == "complete" for trial in data.trials)
    parts: list[str] = [tag("h2", "Parameters")]
    if data.importance:
        caption = (
            f"Importance by fANOVA (Hutter et al. 2014) of the {whole} whole trials: how much of the variance between "
            "them each parameter explains. Of few trials it is a hint, no finding."
        )
        parts.append(show_svg(draw_importance(data.importance), "parameter importance", caption))
    else:
        told = f"Importance is not told: {whole} trials had all their epochs, and it takes {MIN_WHOLE_TRIALS}."
        parts.append(tag("p", told, class_="soft"))
    order = "the most important first" if data.importance else "in the space's order"
    caption = f"Each trial's best {data.objective.label} over its value of a parameter, {order}."
    parts.append(show_svg(draw_slices(data), "objective over parameters", caption))
    return join(parts)


def _show_pareto(data: ReportData) -> Markup:
    if not data.objective.is_pair or not data.trials:
        return Markup()
    by_id = {trial.trial_id: trial for trial in data.trials}
    members = [by_id[trial_id] for trial_id in data.pareto if trial_id in by_id]
    caption = "Dice against size. No trial beats one of the Pareto set in both."
    if not members:
        caption += " The set itself is written when the trials have ended."
    parts: list[str] = [tag("h2", "Dice and size"), show_svg(draw_pareto(data), "Pareto front", caption)]
    if members:
        told = "The best of the set were confirmed; the highest mean Dice over seeds was chosen, whatever its size."
        rows = [
            [trial.trial_id, trial.state, str(trial.best_epoch), _format(trial.best)]
            + [_format_gain(trial.best - data.bar), _format_count(count_parameters(trial))]
            for trial in members
        ]
        titles = ["trial", "state", "epoch", "val Dice", "vs zero-shot", "trained parameters"]
        parts += [tag("p", told), make_table(titles, rows, numbers=range(2, 6))]
    return join(parts)


def _show_confirmation(data: ReportData) -> Markup:
    if not data.finalists:
        return Markup()
    parts: list[str] = []
    if data.chosen is None or data.chosen.n_finalists:
        caption = "The best configurations, trained again with new seeds, each at its best epoch on validation."
        parts.append(show_svg(draw_seeds(data), "seeds of the finalists", caption))
    scaled = next((each for each in data.finalists if each.is_complete and len(each.runs[0].by_scale) > 1), None)
    if scaled is not None and data.chosen is not None:
        caption = (
            "What becomes of the chosen configuration when its change of the weights is scaled (WiSE-FT, Wortsman et "
            "al. 2022), on validation."
        )
        svg = draw_scales(scaled, data.chosen.scale, data.objective.label)
        parts.append(show_svg(svg, "scale of the update", caption))
    return join([tag("h2", "Confirmation"), *parts]) if parts else Markup()


def _show_protocols(data: ReportData) -> Markup:
    rows = data.protocols
    parts: list[str] = [tag("h2", "Zero-shot by protocol")]
    if not rows:
        return join([*parts, tag("p", "No protocol has been scored yet.")])
    limits = [(row.floor, row.ceiling) for row in rows]
    svg = draw_protocols([row.name for row in rows], [row.dice for row in rows], limits)
    caption = "Each under its own protocol, in the order of the trials: this is no ranking."
    parts.append(show_svg(svg, "zero-shot by protocol", caption))
    titles = ["name", "Dice", "IoU", "floor", "ceiling", "id", "protocol"]
    cells = [
        [row.name, *(_format(each) for each in (row.dice, row.iou, row.floor, row.ceiling)), row.protocol_id]
        + [row.protocol]
        for row in rows
    ]
    return join([*parts, make_table(titles, cells, numbers=range(1, 5), wide=(0, 6))])


def _show_overlays(folder: Path) -> Markup:
    pictures = sorted((folder / "overlays").glob("*.png"))
    if not pictures:
        return Markup()
    told = "Validation regions, the truth, and what the models make of them. Click to enlarge."
    return join([tag("h2", "Overlays"), tag("p", told), *(show_picture(path, path.stem) for path in pictures)])


def _show_origin(data: ReportData) -> Markup:
    environment = data.record.environment
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    lines = [
        _format_command(environment["command"]),
        "",
        f"git commit  {environment['git_commit']}",
        f"python      {environment['python']} on {environment['platform']}",
        f"packages    {packages}",
        f"data        fingerprint {data.record.data_fingerprint}",
        f"protocol    {data.protocol.name} [{data.protocol.id}]",
        f"MLflow      experiment {data.record.experiment}, run {data.record.parent_run_id}",
    ]
    told = "The same command, code, packages, data and kind of machine give the same search."
    return join([tag("h2", "How to reproduce"), tag("p", told), tag("pre", "\n".join(lines))])


def _format_command(command: Sequence[str]) -> str:
    """Returns a command line that can be pasted: the module by name rather than by where it lay."""
    program = Path(command[0])
    start = ["python", "-m", f"search.{program.stem}"] if program.parent.name == "search" else [program.name]
    return shlex.join([*start, *command[1:]])


def _format(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else ""


def _format_gain(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else ""


def _format_count(value: float) -> str:
    return f"{int(value):,}" if math.isfinite(value) else ""


def _format_value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else spell_value(value)


def write_report(folder: Path, out: Path) -> Path:
    """Writes a search's report, whole or not at all.

    Args:
        folder: The search's folder.
        out: The file; folders above it are made if missing.

    Returns:
        The file.

    Raises:
        ConfigError: If the folder holds no search, or the report can be no file there.
        SearchError: If one of its files is damaged, or the report cannot be written.
    """
    import optuna

    from search.reporting.data import read_report, tell_unreportable

    _check_out(out)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        data = read_report(folder)
        with tell_unreportable(folder):
            page = render_page(data)
    finally:
        optuna.logging.set_verbosity(verbosity)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
    except OSError as error:
        raise SearchError(f"the report {out} cannot be written: {error.strerror}") from error
    return out


def _check_out(out: Path) -> None:
    """Refuses what would be replaced though it is no file of a page: a pipe, a device, a folder."""
    # Not Path.exists(), which raises where a folder cannot be searched: that is told when the file is written.
    if os.path.exists(out) and not os.path.isfile(out):
        raise ConfigError([Finding(str(out), "is no plain file", "name a file")])
    above = next(path for path in out.parents if os.path.exists(path))
    if not os.path.isdir(above):
        raise ConfigError([Finding(str(out), f"{above} is no folder", "name a file in a folder")])
