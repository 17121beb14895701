"""The artifacts of a search whose test set was opened again say so."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from search.judging.paired_scores import pair_scores
from search.judging.test_set import HeldOutResult
from search.judging.verdict import judge
from search.run_folder.summary import Summary
from search.stages.second_opening import mark_artifacts
from search.stages.session import Session


@pytest.fixture
def exports(session: Session, make_summary: Callable[..., Summary]) -> list[Path]:
    """Two exports of the search, the second one in another place; its outcome is written, too."""
    folder = session.plan.folder
    places = [folder / "export", folder.parent / "elsewhere"]
    for export in places:
        export.mkdir()
        (export / "README.md").write_text("# A model\n")
    (folder / "report.html").write_text("an old report")
    make_summary(export=str(places[1]), caveats=["a leak was allowed"]).write(folder)
    return places


def make_result(folder: Path, opening: int) -> HeldOutResult:
    file = folder / f"scores_test_{opening}.csv"
    file.write_text("file,class\n")
    table = pd.DataFrame({"file": ["a", "b"], "class": "tumor", "patient": ["a", "b"], "w": [0.7, 0.6], "z": 0.5})
    return HeldOutResult(opening, 0.65, 0.5, 0.4, judge(pair_scores(table, "w", "z")), file)


def test_artifacts_have_the_latest_number_once_and_a_first_is_no_caveat(session: Session, exports: list[Path]) -> None:
    folder, record, client = session.plan.folder, session.record, session.tracker.client
    mark_artifacts(folder, record, make_result(folder, 1))
    marked = Summary.read(folder)
    assert marked is not None and marked.origin.caveats == ("a leak was allowed",)
    assert [(export / "README.md").read_text() for export in exports] == ["# A model\n"] * 2
    tags = client.get_run(record.parent_run_id).data.tags
    assert tags["test_openings"] == "1" and "caveat_test" not in tags
    for opening in (2, 3):
        mark_artifacts(folder, record, make_result(folder, opening))
    marked = Summary.read(folder)
    assert marked is not None and (marked.test.openings, marked.test.dice) == (3, 0.6812)  # of the first opening
    caveats = [caveat.split(" for ")[0] for caveat in marked.origin.caveats]
    assert caveats == ["a leak was allowed", "the test set was opened 3 times"]
    for export in exports:
        card = (export / "README.md").read_text()
        assert card.startswith("# A model\n") and card.count("test set was opened") == 1 and "opened 3 times" in card
    tags = client.get_run(record.parent_run_id).data.tags
    assert tags["test_openings"] == "3" and "opened 3 times" in tags["caveat_test"]
    artifacts = {item.path for item in client.list_artifacts(record.parent_run_id)}
    assert {"scores_test_2.csv", "scores_test_3.csv", "summary.json", "report.html"} <= artifacts


def test_a_search_without_an_outcome_is_marked_in_mlflow_alone_also_from_another_place(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    mark_artifacts(session.plan.folder, session.record, make_result(session.plan.folder, 2))
    assert session.tracker.client.get_run(session.record.parent_run_id).data.tags["test_openings"] == "2"
    assert not (session.plan.folder / "summary.json").exists() and not list((tmp_path / "other").iterdir())


def test_a_store_that_is_away_costs_no_mark_on_disk(
    session: Session, exports: list[Path], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.rename(store.with_name("gone"))
    store.write_text("no folder")
    mark_artifacts(session.plan.folder, session.record, make_result(session.plan.folder, 2))
    assert "MLflow: " in capsys.readouterr().out
    assert "opened 2 times" in (exports[0] / "README.md").read_text()
