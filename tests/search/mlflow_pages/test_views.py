"""The saved view of a search: what it shows, and that MLflow's tag takes it."""

import base64
import json
import zlib

from search.mlflow_pages.views import SearchView, pack_view
from search.tracking.limits import MAX_TAG_CHARS

VIEW = SearchView("job", 8, ("tumor", "stroma"), ("optim.lr", "adapter.rank"), ("p", "w"))


def test_its_first_chart_holds_the_dice_and_both_bars() -> None:
    state = VIEW.to_state("p")
    first = state["compareRunCharts"][0]
    assert first["selectedMetricKeys"] == ["val_dice", "bar_zeroshot", "bar_recorded"]
    assert first["metricSectionId"] == state["compareRunSections"][0]["uuid"]
    assert first["useGlobalLineSmoothing"] and state["globalLineChartConfig"]["lineSmoothness"] == 0
    assert state["runsPinned"] == ["p", "w"] and "search_run = 'p'" in state["searchFilter"]


def test_every_chart_has_its_own_name_and_a_section() -> None:
    state = VIEW.to_state("p")
    names = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(names) == len(set(names)) == 7
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections


def test_a_search_that_trains_nothing_has_one_bar_a_trial() -> None:
    state = SearchView("job", 0, trains=False).to_state("p")
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["BAR"]
    assert state["orderByAsc"]


def test_a_tag_takes_a_view_of_many_classes_and_parameters() -> None:
    view = SearchView("job", 8, [f"class number {n}" for n in range(25)], [f"group.name_{n}" for n in range(40)])
    value = pack_view(view.name, view.to_state("p"), 1_700_000_000_000)
    assert len(value) < MAX_TAG_CHARS
    packed = json.loads(value)["state"].removeprefix("deflate;")  # as MLflow's page reads it
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == json.loads(json.dumps(view.to_state("p")))
    assert json.loads(value)["name"] == "job"
