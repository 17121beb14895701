"""Exports a search's winner: PEFT adapter, merged stock SAM2 checkpoint, config, card.

``python -m search.export --run NAME --out DIR``. The merged file is scored again by stock ``SAM2ImagePredictor``; an
export that does not score there what the search's own evaluator gives fails. Class prompts, which stock SAM2 cannot
take, are exported beside the merged weights, and this project's evaluator scores what was written of both.
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

from search.card import Card
from search.chosen import Chosen, read_chosen
from search.command import add_storage_option, run_command
from search.errors import ConfigError, SearchError
from search.record import SearchRecord, find_run
from search.summary import Summary
from trainables.errors import Finding
from trainables.protocol import Protocol

# Dice by which the exported file may differ from the chosen model: rounding of merged weights, no more.
TOLERANCE = 0.001


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: Where to.
        own_dice: Dice of the chosen model, as this project scores it, on the regions that validated the search.
        stock_dice: The exported files', on the same regions, by what ``check`` names.
        check: What scored the export.
    """

    folder: Path
    own_dice: float
    stock_dice: float
    check: str


def export_run(run_folder: Path, out: Path) -> ExportReport:
    """Exports what a search chose.

    Args:
        run_folder: The search's folder.
        out: Made, and only when everything is in it; must not exist, or be an empty folder.

    Raises:
        ConfigError: If ``out`` holds files, or the run folder no search.
        SearchError: If the search has no winner, or the exported file does not score what the winner does.
    """
    record = SearchRecord.read(run_folder)
    check = name_check(record.make_context().protocol)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError([Finding(f"--out {out}", "exists and is not empty", "name a new folder")])
    chosen = read_chosen(run_folder, record)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        own_dice, stock_dice = _write_model(record, chosen, chosen.locate(run_folder), partial)
        if not abs(own_dice - stock_dice) <= TOLERANCE:
            raise SearchError(
                f"the exported model scores {stock_dice:.4f} by {check}, and {own_dice:.4f} as "
                f"the search scores it: they may differ by {TOLERANCE} at most; nothing was exported"
            )
        card = Card(record, chosen, Summary.read(run_folder), stock_dice)
        (partial / "README.md").write_text(card.to_markdown())
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
    return ExportReport(out, own_dice, stock_dice, check)


def name_check(protocol: Protocol) -> str:
    """Returns what scores an export from its files."""
    if protocol.is_auto:
        return "this project's evaluator (stock SAM2 takes no class prompts)"
    return "stock SAM2ImagePredictor"


def _write_model(
    record: SearchRecord, chosen: Chosen, checkpoint: Path, folder: Path
) -> tuple[float, float]:
    """Writes adapter, merged weights, class prompts if any, config and recipe; returns the Dice before and after."""
    from trainables.class_export import score_class_export, write_class_export
    from trainables.merged import score_merged, write_merged
    from trainables.scoring import score_candidate

    context = record.make_context()
    write_merged(context, checkpoint, folder, chosen.scale)
    (folder / "recipe.json").write_text(json.dumps(dict(chosen.params), indent=1) + "\n")
    own = score_candidate(context, checkpoint, context.val, chosen.scale)
    if context.protocol.is_auto:
        write_class_export(context, checkpoint, folder)
        return own.dice, score_class_export(context, folder).dice
    return own.dice, score_merged(context, folder, Path(record.data_root)).dice


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
        print(f"  validation Dice: {report.own_dice:.4f}, by {report.check} {report.stock_dice:.4f}")

    return run_command(export)


if __name__ == "__main__":
    sys.exit(main())
