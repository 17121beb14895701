"""Exports a search's winner: PEFT adapter, merged stock SAM2 checkpoint, config, card.

Stock ``SAM2ImagePredictor`` scores the merged file again; the export fails if that differs from the score of the
search's own evaluator. Two kinds of export are scored by that evaluator from their files: class prompts, which stock
SAM2 does not know, and models that cannot be merged (bottleneck adapters, fusion), whose export is the adapter alone.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search.command_line.out_folder import check_out, fill_out
from search.errors import ConfigError, SearchError
from search.reporting.card import Card
from search.run_folder.chosen import Chosen
from search.run_folder.layout import CHOSEN_FILE
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.study.ranking import read_chosen
from trainables.protocol.spec import Protocol

TOLERANCE = 0.001  # Dice by which rounding of merged weights may change the score
TOLERANCE_BF16 = 0.01  # the same where CUDA computes in bfloat16


@dataclass(frozen=True)
class ExportReport:
    """What was exported, with the Dice of the chosen model on the validation regions by this project's evaluator.

    ``stock_dice`` is that of the exported files, computed by ``check``. If a part of the model is unmergeable, no stock
    checkpoint can hold it, and there is no ``sam2.pt``. ``formats`` has the Dice of each further format by its name.
    """

    folder: Path
    own_dice: float
    stock_dice: float
    check: str
    unmergeable: str = ""
    formats: Mapping[str, float] = field(default_factory=dict)

    def to_lines(self) -> list[str]:
        """Returns the lines for the screen."""
        lines = [f"  validation Dice: {self.own_dice:.4f}, by {self.check} {self.stock_dice:.4f}"]
        if self.unmergeable:
            lines.append(f"  no sam2.pt: {self.unmergeable} cannot be merged; README.md shows how to load the adapter")
        lines += [f"  {name}/: by {name_library(name)} {dice:.4f}" for name, dice in self.formats.items()]
        return lines


def export_run(
    run_folder: Path, out: Path, record: SearchRecord | None = None, formats: Sequence[str] = ()
) -> ExportReport:
    """Exports the model that a search chose to a folder, which is made, and only when everything is in it.

    Where data or weights have been moved, the record says where they are now. ``formats`` names what other tools load,
    to be written too.

    Raises:
        ConfigError: If ``out`` holds files or cannot be made, the run folder holds no search, or a format cannot hold
            its winner.
        SearchError: If the search has no winner, the disk is full, or the exported file does not score what the
            winner does.
    """
    record = record or SearchRecord.read(run_folder)
    if findings := check_out(out):
        raise ConfigError(findings)
    chosen, summary = read_chosen(run_folder, record), Summary.read(run_folder)
    from trainables.export.formats import find_unfit  # late: it imports PyTorch
    from trainables.export.unmerged import find_unmergeable

    checkpoint = chosen.locate(run_folder)
    # At scale 0 the export is zero-shot itself, which stock SAM2 holds.
    unmergeable = find_unmergeable(record.context, checkpoint) if chosen.scale and not chosen.soup else ""
    if findings := find_unfit(formats, record.context, unmergeable):
        raise ConfigError(findings)
    with fill_out(out) as partial:
        try:
            report = _write_model(record, chosen, checkpoint, partial, unmergeable)
            _check_dice(report.own_dice, report.stock_dice, report.check)
            report = _add_formats(report, record, formats)
            has_choice = (run_folder / CHOSEN_FILE).exists()
            card = Card(
                record,
                chosen,
                summary,
                report.stock_dice,
                report.unmergeable,
                has_choice,
                (partial / "adapter").is_dir(),
                report.formats,
            )
            (partial / "README.md").write_text(card.to_markdown(), encoding="utf-8")
        except Exception as error:
            if what := _find_why_unwritable(error, partial):
                raise SearchError(f"{what}; nothing was exported") from error
            raise
    if summary is not None:
        dataclasses.replace(summary, export=str(out), export_val_dice=report.stock_dice).write(run_folder)
    return dataclasses.replace(report, folder=out)


def _check_dice(own: float, found: float, check: str) -> None:
    """Raises a SearchError if what was exported scores otherwise than what the search chose."""
    from trainables.model.device import pick_device  # late: it imports PyTorch

    tolerance = TOLERANCE if pick_device().type == "cpu" else TOLERANCE_BF16
    if not abs(own - found) <= tolerance:
        raise SearchError(
            f"the exported model scores {found:.4f} by {check}, and {own:.4f} as the search scores it: they may "
            f"differ by {tolerance} at most; nothing was exported"
        )


def _add_formats(report: ExportReport, record: SearchRecord, names: Sequence[str]) -> ExportReport:
    """Writes further formats beside ``sam2.pt``, and returns the report with the Dice of each by its own library."""
    from trainables.export.formats import FORMATS, write_formats

    write_formats(names, record.context, report.folder, record.search_id)
    found = {}
    for name in names:
        found[name] = FORMATS[name].score(record.context, report.folder / name, Path(record.data_root)).dice
        _check_dice(report.own_dice, found[name], name_library(name))
    return dataclasses.replace(report, formats=found)


def name_library(name: str) -> str:
    """Returns what scores a further format."""
    from trainables.export.formats import FORMATS  # late: it imports PyTorch

    return FORMATS[name].library


def _find_why_unwritable(error: Exception, partial: Path) -> str:
    """Returns why the disk stopped the export, which PyTorch's errors do not say; empty for other errors."""
    from search.cluster.disk import describe_fault, find_storage_error, probe_storage  # late: it imports Ray

    return describe_fault(find_storage_error(error), str(partial.parent), probe_storage(partial))


def name_check(protocol: Protocol, unmergeable: str = "") -> str:
    """Returns the name of what scores an export from its files."""
    if unmergeable:
        return "this project's evaluator (stock SAM2 cannot hold what was trained)"
    if protocol.is_auto:
        return "this project's evaluator (stock SAM2 takes no class prompts)"
    return "stock SAM2ImagePredictor"


def _write_model(
    record: SearchRecord, chosen: Chosen, checkpoint: Path, folder: Path, unmergeable: str
) -> ExportReport:
    """Writes adapter, merged weights where there can be any, class prompts if any, config and recipe; scores them."""
    from trainables.evaluation.candidates import score_candidate, score_model
    from trainables.export.class_export import load_class_export, write_class_export
    from trainables.export.merged import score_merged, write_merged
    from trainables.export.unmerged import load_unmerged, write_unmerged

    context = record.context
    if unmergeable:
        write_unmerged(context, checkpoint, folder)
    else:
        write_merged(context, checkpoint, folder, chosen.scale)
    (folder / "recipe.json").write_text(json.dumps(dict(chosen.params), indent=1) + "\n")
    if context.protocol.is_auto:
        write_class_export(context, checkpoint, folder)
    own = score_candidate(context, checkpoint, context.val, chosen.scale)
    if unmergeable:
        found = score_model(context, load_unmerged(folder, context.checkpoint, context.pathology_weights))
    elif context.protocol.is_auto:
        found = score_model(context, load_class_export(folder)[1])
    else:
        found = score_merged(context, folder, Path(record.data_root))
    return ExportReport(folder, own.dice, found.dice, name_check(context.protocol, unmergeable), unmergeable)
