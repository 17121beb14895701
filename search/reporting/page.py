"""The report: one HTML page with verdict, leaderboard, figures and overlays inside, laid out by ``page.html``."""

import base64
import functools
import io
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path

from PIL import Image

from search.command_line.options import compose_command
from search.command_line.paths import DEFAULT_STORAGE
from search.errors import ConfigError, SearchError
from search.reporting import plots
from search.reporting.cost import describe_cost
from search.reporting.data import MIN_TRIALS, ReportData, TrialReport, add_leading, read_report, report_damaged_folder
from search.reporting.parallel_plot import draw_parallel
from search.reporting.templates import load_template
from search.run_folder.score_table import PairMeans
from search.run_folder.search_record import SearchRecord
from search.space.parameters import spell_value
from trainables.data.images import read_image
from trainables.errors import DataError
from trainables.files.whole_file import write_whole

N_COLUMNS = 5  # of parameters in the leaderboard
JPEG_QUALITY = 88


def write_report(folder: Path, out: Path) -> Path:
    """Writes a search's report, whole or not at all, and returns its file; folders above it are made if missing.

    Raises:
        ConfigError: If the folder holds no search, or ``out`` cannot be a file.
        SearchError: If one of its files is damaged, or the report cannot be written.
    """
    _check_out(out)
    data = read_report(folder)
    with report_damaged_folder(folder):
        page = render_page(data)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
    except OSError as error:
        raise SearchError(f"the report {out} cannot be written: {error.strerror}") from error
    return out


def _check_out(out: Path) -> None:
    """Refuses to replace a pipe, a device or a folder."""
    # Path.exists() would raise where a folder may not be searched; writing reports that.
    if os.path.exists(out) and not os.path.isfile(out):
        raise ConfigError.at(out, "is no plain file", "name a file")
    above = next(path for path in out.parents if os.path.exists(path))
    if not os.path.isdir(above):
        raise ConfigError.at(out, f"{above} is no folder", "name a file in a folder")


def render_page(data: ReportData) -> str:
    """Returns the report as one HTML document."""
    means = data.test or add_leading(data)
    parameters = data.main_parameters[:N_COLUMNS]
    return load_template("page.html", digits=3).render(
        data=data,
        checkpoint=Path(data.record.context.checkpoint or "shipped weights").name,
        test_limits=_find_test_limits(data),
        means=means,
        figures={name: _embed(svg.encode(), "svg+xml") for name, svg in _draw_figures(data, means).items()},
        parameters=parameters,
        spell_value=functools.partial(spell_value, form=".3g"),
        n_hidden=len(data.main_parameters) - len(parameters),
        ranked=sorted(data.trials, key=lambda trial: (-trial.best if trial.best_epoch else math.inf, trial.number)),
        has_origins=any(trial.origin for trial in data.trials),
        cost=describe_cost(data.trials, data.record.context.max_epochs),
        n_scored=len(data.scored),
        min_trials=MIN_TRIALS,
        members=_list_pareto(data),
        overlays=[_embed_picture(path) for path in sorted((data.folder / "overlays").glob("*.png"))],
        command=_format_command(data.record),
    )


def _find_test_limits(data: ReportData) -> tuple[float, float]:
    """Returns floor and ceiling, averaged as the Dice beside them is: without prompts over the classes."""
    if data.test is None:
        return math.nan, math.nan
    means = [*data.test.by_class.values()] if data.protocol.is_auto else [data.test.overall]
    floor, ceiling = (sum(each[name] for each in means) / len(means) for name in ("floor", "ceiling"))
    return floor, ceiling


def _draw_figures(data: ReportData, means: PairMeans | None) -> dict[str, str]:
    """Returns the figures for which there is data, as SVG text, by name."""
    if not data.trains:
        return {"protocols": plots.draw_protocols(data.protocols)} if data.protocols else {}
    figures: dict[str, str] = {}
    if means is not None:
        figures["classes"] = plots.draw_classes(means, _name_model(data), data.protocol.floor_words)
    if any(math.isfinite(trial.best) for trial in data.trials):
        figures |= {"trials": plots.draw_trials(data), "curves": plots.draw_curves(data)}
        if data.main_parameters:
            figures["slices"] = plots.draw_slices(data)
        if len(data.scored) >= MIN_TRIALS and data.main_parameters:
            figures["parallel"] = draw_parallel(data)
        if data.importance:
            figures["importance"] = plots.draw_importance(data.importance)
    if data.objective.is_pair and data.trials:
        figures["pareto"] = plots.draw_pareto(data)
    if data.finalists and (data.chosen is None or data.chosen.n_finalists):
        figures["seeds"] = plots.draw_seeds(data)
    scaled = next((each for each in data.finalists if each.is_complete and len(each.runs[0].by_scale) > 1), None)
    if scaled is not None and data.chosen is not None:
        # A soup has its own scale; the mean over seeds decides that of the single training.
        scale = data.contenders[0].scale if data.contenders else data.chosen.scale
        figures["scales"] = plots.draw_scales(scaled, scale, data.objective.label)
    return figures


def _name_model(data: ReportData) -> str:
    if data.test and data.chosen:
        return f"winner, trial {data.chosen.trial_id}"
    best = data.best.trial_id if data.best else ""
    return f"winner, trial {best}" if data.test else f"trial {best}, which leads so far"


def _list_pareto(data: ReportData) -> list[TrialReport]:
    by_id = {trial.trial_id: trial for trial in data.trials}
    return [by_id[trial_id] for trial_id in data.pareto if trial_id in by_id]


def _embed_picture(path: Path) -> dict[str, str]:
    """Returns name, content as a URI, and error of a picture, one of the last two empty.

    It becomes a JPEG: tissue is a tenth as large as that.
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(read_image(path)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    except DataError as error:
        return {"name": path.stem, "uri": "", "error": error.findings[0].what}
    return {"name": path.stem, "uri": _embed(buffer.getvalue(), "jpeg"), "error": ""}


def _embed(content: bytes, kind: str) -> str:
    """Returns a data URI of an image; an SVG is embedded as an image because two drawings share ids of their parts."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _format_command(record: SearchRecord) -> str:
    """Returns a command line that can be pasted: the module by name rather than by its path.

    A search that a script or a notebook began has one by its options, with the space as it lies in its folder.
    """
    command = record.environment["command"]
    program = Path(command[0])
    if program.parent.name == "search":
        return shlex.join(["python", "-m", f"search.{program.stem}", *command[1:]])
    if program.name == "sam2-search" or not record.arguments:
        return shlex.join([program.name, *command[1:]])
    space = f"{DEFAULT_STORAGE}/{record.search_id}/{record.options.space}"
    return compose_command("search.run", replace(record.options, space=space, set=()))
