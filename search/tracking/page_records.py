"""Records of what MLflow's pages show of a search: data set, saved view, leaderboard, pictures, model, the choice."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from search.mlflow_pages.notes import PARENT_TAG
from search.mlflow_pages.run_names import mark_winner
from search.mlflow_pages.views import SEARCH_TAG, VIEW_TAG, SearchView, pack_view
from search.served_model.registry import URI_TAG, RegistryRefusal, register_model
from search.tracking.errors import TrackingError, translate_errors
from search.tracking.limits import confine_path
from search.tracking.tracker import Dataset
from search.tracking.trial_runs import SearchRuns


@dataclass(frozen=True)
class Choice:
    """Whether a trial's configuration was chosen at the search's end: its tag `winner`, and its name."""

    trial_id: str
    is_winner: bool
    tags: dict[str, Any] = field(default_factory=dict)

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        run_id = runs.find(self.trial_id)
        runs.tracker.set_tags(run_id, {"winner": "yes" if self.is_winner else "no", **self.tags})
        runs.tracker.rename(run_id, lambda name: mark_winner(name, self.is_winner))


@dataclass(frozen=True)
class Data:
    """The data set of the search."""

    dataset: Dataset

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.log_dataset(runs.parent, self.dataset)


@dataclass(frozen=True)
class View:
    """The search's saved view in the menu of MLflow's page of runs; a winner's run stands first in it."""

    view: SearchView
    winner: str | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        tracker, parent = runs.tracker, runs.parent
        tracker.set_tags(parent, {SEARCH_TAG: parent})
        for run in tracker.find_runs({PARENT_TAG: parent}):
            if SEARCH_TAG not in run.data.tags:  # made by an older version
                tracker.set_tags(run.info.run_id, {SEARCH_TAG: parent})
        first = [parent, runs.find(self.winner)] if self.winner else [parent]
        state = dataclasses.replace(self.view, first=first).to_state(parent)
        tracker.set_experiment_tag(f"{VIEW_TAG}{parent}", pack_view(self.view.name, state, time_ms))


@dataclass(frozen=True)
class Table:
    """A table among the artifacts of the search's run, which MLflow's pages show as one."""

    file: str
    columns: list[str]
    rows: list[list[Any]]

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.log_text(runs.parent, json.dumps({"columns": self.columns, "data": self.rows}), self.file)
        shown = json.dumps([{"path": self.file, "type": "table"}])
        runs.tracker.set_tags(runs.parent, {"mlflow.loggedArtifacts": shown})


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder below the search's as steps of one chart of its run or of a trial's."""

    folder: str
    key: str
    trial_id: str | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        paths = sorted(confine_path(self.folder, runs.folder).glob("*.png"))
        run_id, client = runs.find(self.trial_id), runs.tracker.client
        with translate_errors("store the pictures"):
            there = " ".join(item.path for item in client.list_artifacts(run_id, "images"))
            for step, path in enumerate(paths):
                # Those that are there with the same time are not repeated.
                if re.search(rf"{self.key}[+%]step[+%]{step}[+%]timestamp[+%]{time_ms}\b", there) is None:
                    client.log_image(
                        run_id, _read_picture(path), key=self.key, step=step, timestamp=time_ms, synchronous=True
                    )


def _read_picture(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except OSError as error:
        raise TrackingError(f"{path} is no picture: {error}") from error


@dataclass(frozen=True)
class Model:
    """The export of a trial's configuration as a version of a registered model, whose URI the search's run names."""

    export: str
    name: str
    trial_id: str
    tags: dict[str, str]
    description: str = ""

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        export = confine_path(self.export, runs.folder)
        run_id = runs.find(self.trial_id)
        client, experiment_id = runs.tracker.client, runs.tracker.experiment_id
        with translate_errors("register the model"):
            try:
                uri = register_model(client, experiment_id, run_id, export, self.name, self.tags, self.description)
            except RegistryRefusal as error:
                raise TrackingError(str(error)) from error
        runs.tracker.set_tags(runs.parent, {URI_TAG: uri})
