"""Exports a search's winner: PEFT adapter, merged stock SAM2 checkpoint, config, card.

``python -m search.export --run NAME --out DIR``. The merged file is scored again by stock ``SAM2ImagePredictor``; an
export whose validation Dice is not the trial's fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from search.card import write_card
from search.command import add_storage_option, run_command
from search.errors import ConfigError, SearchError
from search.record import TRIALS_FOLDER, SearchRecord, find_run, make_study_file
from search.results import Winner, find_winner, read_trials
from search.summary import Summary
from trainables.errors import Finding

# Dice by which the exported file may differ from the trial: rounding of merged weights, no more.
TOLERANCE = 0.001


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: Where to.
        trial_dice: The trial's Dice on validation.
        stock_dice: The merged file's, by stock SAM2ImagePredictor.
    """

    folder: Path
    trial_dice: float
    stock_dice: float


def export_run(run_folder: Path, out: Path) -> ExportReport:
    """Exports the winner of a search.

    Args:
        run_folder: The search's folder.
        out: Made, and only when everything is in it; must not exist, or be an empty folder.

    Raises:
        ConfigError: If ``out`` holds files, or the run folder no search.
        SearchError: If the search has no winner, or the export's Dice is not the trial's.
    """
    record = SearchRecord.read(run_folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError([Finding(f"--out {out}", "exists and is not empty", "name a new folder")])
    winner = find_winner(read_trials(make_study_file(run_folder, record)), run_folder / TRIALS_FOLDER)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        stock_dice = _write_model(record, winner, partial)
        report = ExportReport(out, winner.val_dice, stock_dice)
        if not abs(report.trial_dice - report.stock_dice) <= TOLERANCE:
            raise SearchError(
                f"the exported model scores {stock_dice:.4f} by stock SAM2ImagePredictor, the trial scored "
                f"{winner.val_dice:.4f}: they may differ by {TOLERANCE} at most; nothing was exported"
            )
        write_card(partial / "README.md", record, winner, Summary.read(run_folder), stock_dice)
        if out.exists():
            out.rmdir()
        partial.chmod(0o755)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    summary = Summary.read(run_folder)
    if summary is not None:
        dataclasses.replace(summary, export=str(out), export_val_dice=stock_dice).write(run_folder)
    return report


def _write_model(record: SearchRecord, winner: Winner, folder: Path) -> float:
    """Writes adapter, merged weights and config; returns the merged file's validation Dice by the stock predictor."""
    from trainables.merged import score_merged, write_merged

    context = record.make_context()
    write_merged(context, winner.checkpoint, folder)
    (folder / "recipe.json").write_text(json.dumps(dict(winner.params), indent=1) + "\n")
    return score_merged(context, folder, Path(record.data_root)).dice


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.export", description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", required=True, help="name of a search below --storage, or its folder")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    add_storage_option(parser)
    arguments = parser.parse_args(argv)

    def export() -> None:
        run_folder = find_run(Path(arguments.storage).expanduser().resolve(), arguments.run)
        report = export_run(run_folder, arguments.out.expanduser().resolve())
        print(f"exported to {report.folder}")
        print(f"  validation Dice: trial {report.trial_dice:.4f}, stock SAM2ImagePredictor {report.stock_dice:.4f}")

    return run_command(export)


if __name__ == "__main__":
    sys.exit(main())
