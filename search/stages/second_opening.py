"""Marks the summary, the cards, the report and the MLflow run of a search whose test set was opened again."""

import dataclasses
from pathlib import Path

from search.errors import SearchError
from search.judging.openings import describe_openings, make_opening_tags
from search.judging.test_set import HeldOutResult
from search.reporting.page import write_report
from search.run_folder.layout import OPENINGS_FILE, REPORT_FILE, SUMMARY_FILE
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.tracking.tracker import Tracker
from trainables.files.whole_file import write_whole

_OPENED = "the test set was opened"  # what describe_openings begins with


def mark_artifacts(folder: Path, record: SearchRecord, result: HeldOutResult) -> None:
    """Writes the number of openings into everything that holds the search's test figures.

    The summary keeps the figures of the first opening.
    """
    text = describe_openings(result.opening)
    if text and (summary := Summary.read(folder)) is not None:
        caveats = (*(each for each in summary.origin.caveats if not each.startswith(_OPENED)), text)
        origin = dataclasses.replace(summary.origin, caveats=caveats)
        test = dataclasses.replace(summary.test, openings=result.opening)
        dataclasses.replace(summary, origin=origin, test=test).write(folder)
        # The search's own export, and the one that was made last.
        for card in {folder / "export" / "README.md", Path(summary.export or folder) / "README.md"}:
            if card.is_file():
                write_whole(card, _mark_card(card.read_text(encoding="utf-8"), text))
    try:
        if (report := folder / REPORT_FILE).is_file():
            write_report(folder, report)
    except SearchError as error:
        print(f"no new report: {error}")
    try:
        tracker = Tracker.connect(record.experiment, default_uri=record.tracking_uri)
        tracker.set_tags(record.parent_run_id, make_opening_tags(result.opening))
        for file in (result.file, folder / SUMMARY_FILE, folder / OPENINGS_FILE, folder / REPORT_FILE):
            if file.is_file():
                tracker.log_artifact(record.parent_run_id, file)
    except SearchError as error:  # connecting raises it, writing its subclass
        print(f"MLflow: {error}")


def _mark_card(card: str, text: str) -> str:
    """Returns a card with a text as its last paragraph, which replaces that of an earlier opening."""
    opened = f"**{_OPENED[0].upper()}{_OPENED[1:]}"
    paragraphs = [each for each in card.rstrip().split("\n\n") if not each.startswith(opened)]
    return "\n\n".join([*paragraphs, f"**{text[0].upper()}{text[1:]}.**"]) + "\n"
