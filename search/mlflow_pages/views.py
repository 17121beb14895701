"""Saved views of MLflow's page of runs: which runs, columns and charts it opens with, kept in a tag of the experiment.

MLflow has no call that makes one. Its own page (version 3.17) writes the tag ``mlflow.sharedViewState.KEY`` and lists
the named ones in its menu `Views`; the state is what the page's own code calls the experiment page's UI state, and what
it does not know it ignores.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VIEW_TAG = "mlflow.sharedViewState."
SEARCH_TAG = "search_run"  # on every run of a search, its own included: the id of the search's run

# MLflow's own sections of charts, one a prefix of metrics: all that is not in this view's charts, folded.
_FOLDED = ("Model metrics", "System metrics", "val_dice", "val_iou", "dice_minus_zeroshot", "train_loss", "seconds")
_CHARTS, _PARAMETERS, _CLASSES, _SPEED, _IMAGES = "The search", "Parameters", "Dice by class", "Speed", "Overlays"
_NAME = "attributes.`Run Name`"
N_COORDINATES = 8  # more cannot be read in MLflow's chart
OVERLAY_KEY = "overlay"


@dataclass(frozen=True)
class SearchView:
    """The view of one search: `val_dice` with both bars, best so far, parameters, speed, and Dice by class.

    Attributes:
        name: In the menu `Views`: the search's.
        max_epochs: Of a trial.
        class_names: Scored classes.
        parameters: Searched parameters; the first eight have parallel coordinates.
        first: Run ids that stand above all others.
        trains: Whether the search trains; where it does not, each trial has one figure under a protocol of its own.
    """

    name: str
    max_epochs: int
    class_names: Sequence[str] = ()
    parameters: Sequence[str] = ()
    first: Sequence[str] = ()
    trains: bool = True

    def to_state(self, search_run: str) -> dict[str, Any]:
        """Returns the state of MLflow's page, for the runs of one search without its confirmations."""
        columns = ["metrics.`best_val_dice`", "metrics.`dice_minus_zeroshot`", "metrics.`images_per_s`"]
        if not self.trains:
            columns = ["metrics.`val_dice`", "metrics.`val_floor`", "metrics.`val_ceiling`"]
        return {
            "searchFilter": f"tags.{SEARCH_TAG} = '{search_run}' and tags.run_kind != 'confirmation'",
            "orderByKey": "metrics.`best_val_dice`" if self.trains else "tags.`trial_number`",
            "orderByAsc": not self.trains,
            "selectedColumns": columns,
            "columnOrder": [_NAME, *columns],
            "columnWidths": {_NAME: 330},
            "runsPinned": list(self.first),
            "runsHiddenMode": "FIRST_20_RUNS",
            "compareRunCharts": list(self._list_charts()),
            "compareRunSections": [
                {**_begin_section(_CHARTS, display=True), "columns": 2, "cardHeight": 400},
                {**_begin_section(_PARAMETERS, display=True), "columns": 1, "cardHeight": 400},
                _begin_section(_CLASSES, display=True),
                {**_begin_section(_SPEED, display=True), "columns": 1},
                {**_begin_section(_IMAGES, display=True), "columns": 1, "cardHeight": 500},
                *(_begin_section(name, display=False) for name in _FOLDED),
            ],
            "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
            "isAccordionReordered": True,
            "hideEmptyCharts": True,
        }

    def _list_charts(self) -> Iterator[dict[str, Any]]:
        if not self.trains:
            yield {**_begin_chart("BAR", _CHARTS, "val_dice"), "metricKey": "val_dice"}
            return
        x_range = {"xMin": 0, "xMax": self.max_epochs + 0.2}  # the search's own run counts trials, not epochs
        yield _draw_lines(_CHARTS, "val_dice", "bar_zeroshot", "bar_recorded", range=x_range)
        # Only the search's own run has it.
        yield _draw_lines(_CHARTS, "best_dice_minus_zeroshot")
        yield {
            **_begin_chart("PARALLEL", _PARAMETERS, "parallel"),
            "selectedParams": list(self.parameters[:N_COORDINATES]),
            "selectedMetrics": ["best_val_dice"],
            "showAllRuns": True,
        }
        for name in self.class_names:
            yield _draw_lines(_CLASSES, f"val_dice/{name}")
        yield {**_begin_chart("BAR", _SPEED, "images_per_s"), "metricKey": "images_per_s"}
        yield {**_begin_chart("IMAGE", _IMAGES, OVERLAY_KEY), "imageKeys": [OVERLAY_KEY], "step": 0}


def pack_view(name: str, state: Mapping[str, Any], time_ms: int) -> str:
    """Returns the value of a view's tag; the state is compressed, as a tag takes 5,000 characters."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": time_ms, "updatedAt": time_ms, "state": f"deflate;{packed}"})


def _begin_chart(kind: str, section: str, name: str) -> dict[str, Any]:
    # Any text will do where MLflow itself has a UUID.
    common = {"deleted": False, "isGenerated": False, "runsCountToCompare": 100}
    return {"uuid": f"chart {name}", "type": kind, "metricSectionId": f"section {section}", **common}


def _draw_lines(section: str, *metrics: str, **looks: Any) -> dict[str, Any]:
    # Without it MLflow smooths the lines of a saved view: what is drawn would be no trial's figures.
    own = {"metricKey": metrics[0], "selectedMetricKeys": list(metrics), "useGlobalLineSmoothing": True, **looks}
    return {**_begin_chart("LINE", section, metrics[0]), **own}


def _begin_section(name: str, display: bool) -> dict[str, Any]:
    return {"uuid": f"section {name}", "name": name, "display": display, "isReordered": display}
