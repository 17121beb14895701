"""The card of an exported model: what it is, what it was trained on, what it scored, beside the bar."""

from __future__ import annotations

from pathlib import Path

from search.bar import RECORDED_BAR
from search.record import SearchRecord
from search.results import Winner
from search.summary import Summary
from trainables.model.build import MODELS


def write_card(
    path: Path, record: SearchRecord, winner: Winner, summary: Summary | None, stock_dice: float
) -> None:
    """Writes the card as Markdown.

    Args:
        path: File to write.
        record: The search.
        winner: The exported trial.
        summary: The search's outcome; None where it did not come that far.
        stock_dice: Validation Dice of the merged file by stock SAM2ImagePredictor.
    """
    parts = [
        _describe_model(record, winner),
        _describe_scores(record, winner, summary, stock_dice),
        _describe_data(record),
        _describe_use(record),
        _describe_recipe(winner),
    ]
    path.write_text("\n\n".join(parts) + "\n")


def _describe_model(record: SearchRecord, winner: Winner) -> str:
    context = record.make_context()
    warning = f"\n\n**Made with {record.demo}: its numbers say nothing about tissue.**" if record.demo else ""
    return (
        f"# SAM2 `{context.model}` with LoRA, from search `{record.search_id}`{warning}\n\n"
        f"Trial `{winner.trial_id}`, epoch {winner.epoch}, the highest validation Dice of its search."
    )


def _describe_scores(
    record: SearchRecord, winner: Winner, summary: Summary | None, stock_dice: float
) -> str:
    protocol = record.make_context().protocol
    rows = ["| | validation | test, opened once |", "|---|---|---|"]
    if summary is None:
        rows.append(f"| this model | {winner.val_dice:.4f} | not scored |")
    else:
        rows += [
            f"| this model | {winner.val_dice:.4f} | {summary.test_dice:.4f} |",
            f"| zero-shot, measured alike | {summary.zeroshot_val_dice:.4f} | "
            f"{summary.zeroshot_test_dice:.4f} |",
            f"| filled prompt box (floor) | {summary.val_floor:.4f} | |",
            f"| best mask inside the prompt (ceiling) | {summary.val_ceiling:.4f} | |",
        ]
    rows.append(f"| this file by stock `SAM2ImagePredictor` | {stock_dice:.4f} | |")
    verdict = (
        f"\n\nAgainst zero-shot on test: **{summary.verdict}**. Validation chose this model among "
        f"{sum(summary.trials.values())} trials, so its validation figure is optimistic."
        if summary
        else ""
    )
    return (
        "## Dice\n\n" + "\n".join(rows) + f"\n\nProtocol `{protocol.describe()}`.{verdict}\n\n"
        f"For orientation: the recorded bar is {RECORDED_BAR.overall_dice} (SAM2.1 Hiera-L, zero-shot, BCSS "
        f"test set, protocol `{RECORDED_BAR.protocol}`); it can be compared only with figures on those images."
    )


def _describe_data(record: SearchRecord) -> str:
    counts = ", ".join(f"{len(names)} {part}" for part, names in record.split.items())
    versions = ", ".join(f"{name} {version}" for name, version in record.environment["packages"].items())
    return (
        f"## Data and origin\n\nData fingerprint `{record.data_fingerprint}`; regions: {counts}. "
        f"{record.split_description}\n\nSeed {record.context['seed']}, git commit "
        f"`{record.environment['git_commit']}`, {versions}."
    )


def _describe_use(record: SearchRecord) -> str:
    spec = MODELS[record.context["model"]]
    lines = ["from sam2.build_sam import build_sam2"]
    if spec.is_demo:
        lines += [
            "from hydra import initialize_config_dir",
            "from hydra.core.global_hydra import GlobalHydra",
            "",
            "GlobalHydra.instance().clear()  # nano's config lies beside this card, not inside sam2",
            'with initialize_config_dir("/absolute/path/of/this/folder", version_base="1.2"):',
            f'    model = build_sam2("{spec.config}", "sam2.pt", device="cpu")',
        ]
    else:
        lines.append(f'model = build_sam2("{spec.config}", "sam2.pt")')
    return (
        "## Use\n\n`sam2.pt` holds the merged weights under stock keys; `adapter/` is the PEFT adapter "
        "alone.\n\n"
        "```python\n" + "\n".join(lines) + "\n```"
    )


def _describe_recipe(winner: Winner) -> str:
    rows = [f"| `{name}` | {value} |" for name, value in winner.params.items()]
    return "## Recipe\n\n| field | value |\n|---|---|\n" + "\n".join(rows)
