"""Scores a checkpoint of MedSAM or the first SAM beside a search's zero-shot SAM2 and its chosen model.

``python -m search.compare --run NAME --medsam FILE``. On the validation regions of the search and under its protocol;
test stays closed.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.command import add_storage_option, expand_path, locate_storage, run_command
from search.errors import ConfigError, SearchError
from trainables.damage import CONTENT_ERRORS
from trainables.errors import Finding

if TYPE_CHECKING:
    from search.chosen import Chosen
    from search.record import SearchRecord
    from search.verdict import Verdict
    from trainables.sam1_weights import Sam1Model
    from trainables.scores import Scores

_TAKEN_NAMES = ("zeroshot", "chosen", "winner", "floor", "ceiling", "file", "class", "patient", "protocol")


@dataclass(frozen=True)
class Comparison:
    """A comparator beside the models of a search.

    Attributes:
        name: What the comparator is called.
        weights: Its file.
        size: Its size, such as ``ViT-B``.
        scores: On the search's validation regions, under its protocol.
        verdict: Against zero-shot SAM2, pair by pair.
        caveats: What a reader of its figures must know.
        file: The scores of all pairs.
    """

    name: str
    weights: Path
    size: str
    scores: Scores
    verdict: Verdict
    caveats: tuple[str, ...]
    file: Path

    def to_lines(self, record: SearchRecord, chosen: Chosen | None) -> list[str]:
        """Returns what the screen says.

        Args:
            record: What the search was.
            chosen: What it chose; None where no trial left a checkpoint.
        """
        scores, protocol = self.scores, self.scores.protocol
        demo = f" - {record.demo}" if record.demo else ""
        rows = [
            ("filled prompt box", scores.floor, ""),
            (f"zero-shot SAM2 ({record.context['model']})", self.verdict.baseline_mean, ""),
            (f"{self.name} ({self.size})", self.verdict.candidate_mean, _describe_difference(self.verdict)),
        ]
        if chosen is not None:
            who = f"chosen: trial {chosen.trial_id}, seed {chosen.seed}, epoch {chosen.epoch}, scale {chosen.scale:g}"
            rows.append((who, chosen.val_dice, "chosen on these very regions, so too good"))
        rows.append(("ceiling", scores.ceiling, ""))
        width = max(len(label) for label, _, _ in rows)
        lines = [f"{record.search_id}: validation, {len(scores.pairs)} (image, class) pairs{demo}"]
        lines += [f"  {label:<{width}}  {dice:.4f}  {told}".rstrip() for label, dice, told in rows]
        lines.append(f"  {self.name} against zero-shot, on validation: {self.verdict.word} ({self.verdict.reason})")
        lines.append(f"  all Dice under protocol {protocol.describe()}, data {record.data_fingerprint}")
        if protocol.averaging != "pairs":
            lines.append(f"  but zero-shot and {self.name} as means over pairs, as the interval is one of pairs")
        if chosen is None:
            lines.append("  no trial of this search left a checkpoint yet: nothing was chosen")
        return lines + [f"  CAVEAT: {caveat}" for caveat in (*self.caveats, *record.caveats)]


def compare_run(folder: Path, weights: Path, style: str, name: str) -> Comparison:
    """Scores a comparator on the validation regions of a search and writes ``scores_val_<name>.csv``.

    Args:
        folder: The search's folder.
        weights: The comparator's file.
        style: One of :data:`trainables.sam1_weights.STYLES`.
        name: What it will be called.

    Raises:
        ConfigError: If the folder holds no search, or not yet its zero-shot scores, or its data has changed.
        InputError: If the weights cannot be used, or the images are gone.
    """
    from search.record import SearchRecord
    from search.results import write_scores
    from trainables.sam1_weights import STYLES, load_sam1

    record = SearchRecord.read(folder)
    zeroshot = _read_zeroshot(folder, record)
    model = load_sam1(weights, STYLES[style])
    caveats = tuple(model.style.list_caveats(record.make_context().protocol))
    scores = _score(record, model)
    verdict = _judge(scores, zeroshot, name, folder, record.context["seed"])
    file = folder / f"scores_val_{name}.csv"
    write_scores(file, {name: scores}, {"caveats": "; ".join((*caveats, *record.caveats))})
    return Comparison(name, weights, model.size, scores, verdict, caveats, file)


def _read_zeroshot(folder: Path, record: SearchRecord) -> dict[tuple[str, str], float]:
    """Returns the Dice of zero-shot SAM2 by (image, class), as the search wrote it."""
    path, wanted = folder / "scores_val_zeroshot.csv", record.make_context().protocol
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = {(row["file"], row["class"]): float(row["zeroshot"]) for row in rows}
        protocols = {row["protocol"] for row in rows}
    except (*CONTENT_ERRORS, csv.Error) as error:
        what = f"holds no scores of zero-shot SAM2 ({type(error).__name__}: {error})"
        raise ConfigError([Finding(str(path), what, "the search has to get that far: --resume it")]) from error
    if protocols != {wanted.id}:
        what = f"was scored under protocol {', '.join(sorted(protocols)) or 'none'}, the search says {wanted.id}"
        raise ConfigError([Finding(str(path), what, "files of two searches got mixed: search again")])
    return found


def _score(record: SearchRecord, model: Sam1Model) -> Scores:
    """Scores a comparator on a search's validation regions, of all folds where there are several."""
    from trainables.data.bcss import read_regions
    from trainables.data.images import read_image
    from trainables.data.store import RegionStore
    from trainables.device import pick_device
    from trainables.evaluation_set import EvaluationSet
    from trainables.sam1_comparator import score_sam1

    context = record.make_context()
    if context.protocol.is_auto:
        what = "was scored without prompts, and this model answers nothing else"
        raise ConfigError([Finding(record.search_id, what, "compare it under a search whose protocol prompts")])
    context.use_share()
    store = RegionStore.open(Path(context.store_folder))
    files = {region.name: region.image for region in read_regions(Path(record.data_root)).regions}
    gone = [name for name in context.scored if name not in files]
    if store.fingerprint != record.data_fingerprint or gone:
        what = f"lacks {gone[0]}" if gone else f"has the fingerprint {store.fingerprint} now"
        rule = f"the search ran on the data {record.data_fingerprint}"
        raise ConfigError([Finding(record.data_root, f"{what}; {rule}", "put the data back as it was")])
    regions = EvaluationSet(store, context.scored, context.protocol)
    return score_sam1(model, regions, lambda name: read_image(files[name]), pick_device())


def _judge(
    scores: Scores, zeroshot: dict[tuple[str, str], float], name: str, folder: Path, seed: int
) -> Verdict:
    from search.scores import pair_scores
    from search.verdict import judge

    pairs = [(pair.file, pair.class_name) for pair in scores.pairs]
    if set(pairs) != set(zeroshot):
        what = f"zero-shot was scored on {len(zeroshot)} (image, class) pairs, {name} on {len(pairs)} others"
        raise ConfigError([Finding(str(folder), what, "the data has changed: search again")])
    return judge(
        pair_scores(
            [file for file, _ in pairs],
            [class_name for _, class_name in pairs],
            [pair.dice for pair in scores.pairs],
            [zeroshot[pair] for pair in pairs],
            patient=[pair.patient for pair in scores.pairs],
            names=(name, "zeroshot"),
        ),
        seed,
    )


def _describe_difference(verdict: Verdict) -> str:
    total = verdict.overall
    interval = total.interval
    told = "one patient, no interval"
    if interval is not None:
        told = f"{100 * interval.confidence:.4g} % interval over patients {interval.low:+.4f} to {interval.high:+.4f}"
    return f"{total.mean_difference:+.4f} against zero-shot ({told})"


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", text) or text in _TAKEN_NAMES:
        raise argparse.ArgumentTypeError(
            f"must be letters, digits, - and _, 40 at most, and none of {', '.join(_TAKEN_NAMES)}, but got {text!r}"
        )
    return text


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    from trainables.sam1_weights import SAM_MED2D_NOTE

    parser = argparse.ArgumentParser(
        prog="python -m search.compare",
        description="Scores a checkpoint of MedSAM or the first SAM beside a search's zero-shot SAM2 and its chosen "
        "model, on validation alone and under the search's protocol. Needs the package segment-anything.",
        epilog=SAM_MED2D_NOTE,
    )
    parser.add_argument("--run", required=True, help="name of a search below --storage, or its folder")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--medsam",
        metavar="FILE",
        help="medsam_vit_b.pth or a fine-tune of it: image stretched to a square, values in [0, 1], its single mask",
    )
    weights.add_argument(
        "--sam",
        metavar="FILE",
        help="sam_vit_b_01ec64.pth or another of the first SAM, of any size; the weights tell which",
    )
    parser.add_argument("--name", type=_name, help="what it is called in files and MLflow (default: medsam or sam)")
    add_storage_option(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and compares; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_command(lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> None:
    from search.chosen import read_chosen
    from search.comparator_run import log_comparison
    from search.record import SearchRecord, find_run

    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    folder = find_run(locate_storage(arguments.storage), arguments.run)
    record = SearchRecord.read(folder)
    style = "sam" if arguments.medsam is None else "medsam"
    weights = expand_path(arguments.sam if arguments.medsam is None else arguments.medsam)
    found = compare_run(folder, weights, style, arguments.name or style)
    try:
        chosen = read_chosen(folder, record)
    except SearchError:
        chosen = None
    print("\n".join(found.to_lines(record, chosen)))
    print(f"  pairs: {found.file}")
    try:
        log_comparison(record, found)
    except SearchError as error:
        print(f"MLflow: {error}; the files are written. Run this where the search ran, or set MLFLOW_TRACKING_URI.")


if __name__ == "__main__":
    sys.exit(main())
