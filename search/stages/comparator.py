"""Scores a checkpoint of MedSAM or the first SAM on a search's validation regions, and logs it to MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import ConfigError
from search.mlflow_pages.notes import NOTE_TAG, RUN_KIND_TAG
from search.plan.problems import GIVE_DATA
from search.run_folder.origin import Origin
from search.run_folder.score_table import read_zeroshot, write_scores
from search.run_folder.search_record import SearchRecord
from search.tracking.bar_runs import log_constants
from search.tracking.tracker import Tracker
from trainables.files.manifest import hash_file
from trainables.protocol.scores import flatten_with_limits

if TYPE_CHECKING:
    from search.judging.verdict import Verdict
    from search.run_folder.chosen import Chosen
    from trainables.evaluation.sam1_weights import Sam1Model
    from trainables.protocol.scores import Scores


RUN_KIND = "comparator"


@dataclass(frozen=True)
class ComparatorScores:
    """Scores of a comparator: a model, of a size such as ``ViT-B``, that was not trained here.

    They are of the search's validation regions, under its protocol; the verdict is against zero-shot SAM2, pair by
    pair, and the file has all pairs.
    """

    name: str
    weights: Path
    size: str
    scores: Scores
    verdict: Verdict
    caveats: tuple[str, ...]
    file: Path

    def to_lines(self, record: SearchRecord, chosen: Chosen | None) -> list[str]:
        """Returns the lines for the screen; there is no chosen model where no trial left a checkpoint."""
        scores, protocol = self.scores, self.scores.protocol
        demo = f" - {record.demo}" if record.demo else ""
        found = self.verdict.overall
        difference = f"{found.mean_difference:+.4f} against zero-shot ({found.describe_interval()})"
        rows = [
            ("filled prompt box", scores.floor, ""),
            (f"zero-shot SAM2 ({record.context.model})", self.verdict.baseline_mean, ""),
            (f"{self.name} ({self.size})", self.verdict.candidate_mean, difference),
        ]
        if chosen is not None:
            rows.append((f"chosen: {chosen.describe()}", chosen.val_dice, "chosen on these very regions, so too good"))
        rows.append(("ceiling", scores.ceiling, ""))
        width = max(len(label) for label, _, _ in rows)
        lines = [f"{record.search_id}: validation, {len(scores.pairs)} (image, class) pairs{demo}"]
        lines += [f"  {label:<{width}}  {dice:.4f}  {remark}".rstrip() for label, dice, remark in rows]
        lines.append(f"  {self.name} against zero-shot, on validation: {self.verdict.word} ({self.verdict.reason})")
        lines.append(f"  all Dice under protocol {protocol.describe()}, data {record.data_fingerprint}")
        if protocol.averaging != "pairs":
            lines.append(f"  but zero-shot and {self.name} as means over pairs, as the interval is one of pairs")
        if chosen is None:
            lines.append("  no trial of this search left a checkpoint yet: nothing was chosen")
        return lines + [f"  CAVEAT: {caveat}" for caveat in (*self.caveats, *record.caveats)]


def compare_run(
    folder: Path, weights: Path, style: str, name: str, record: SearchRecord | None = None
) -> ComparatorScores:
    """Scores a comparator on the validation regions of a search and writes ``scores_val_<name>.csv``.

    Its style is one of :data:`trainables.evaluation.sam1_weights.STYLES`.
    Where the data has been moved, the record says where it is now.

    Raises:
        ConfigError: If the folder holds no search, or not yet its zero-shot scores, or its data has changed.
        InputError: If the weights cannot be used, or the images are gone.
    """
    from search.judging.test_set import judge_pairs
    from trainables.evaluation.sam1_weights import STYLES, load_sam1

    record = record or SearchRecord.read(folder)
    zeroshot = read_zeroshot(folder / "scores_val_zeroshot.csv", record.context.protocol.id)
    model = load_sam1(weights, STYLES[style])
    notes = (f"{weights.name}: {note}" for note in model.notes)
    caveats = (*model.style.list_caveats(record.context.protocol), *notes)
    scores = _score(record, model)
    if {(pair.file, pair.class_name) for pair in scores.compared} != set(zeroshot):
        what = f"zero-shot was scored on {len(zeroshot)} (image, class) pairs, {name} on {len(scores.compared)} others"
        raise ConfigError.at(folder, what, "the data has changed: search again")
    verdict = judge_pairs(scores, zeroshot, (name, "zeroshot"))
    file = folder / f"scores_val_{name}.csv"
    write_scores(file, {name: scores}, {"caveats": "; ".join((*caveats, *record.caveats))})
    return ComparatorScores(name, weights, model.size, scores, verdict, caveats, file)


def _score(record: SearchRecord, model: Sam1Model) -> Scores:
    """Scores a comparator on a search's validation regions, of all folds where there are several."""
    from trainables.data.images import read_image
    from trainables.data.regions import read_regions
    from trainables.data.store import RegionStore
    from trainables.evaluation.evaluation_set import EvaluationSet
    from trainables.evaluation.sam1_comparator import score_sam1
    from trainables.model.device import pick_device, use_ray_share

    context = record.context
    if context.protocol.is_auto:
        what = "was scored without prompts, and this model answers nothing else"
        raise ConfigError.at(record.search_id, what, "compare it under a search whose protocol prompts")
    use_ray_share()
    store = RegionStore(context.store_folder)
    files = {region.name: region.image for region in read_regions(Path(record.data_root)).regions}
    gone = [name for name in context.scored if name not in files]
    if store.fingerprint != record.data_fingerprint or gone:
        what = f"lacks {gone[0]}" if gone else f"has the fingerprint {store.fingerprint} now"
        rule = f"the search ran on the data {record.data_fingerprint}"
        raise ConfigError.at(record.data_root, f"{what}; {rule}", GIVE_DATA)
    regions = EvaluationSet(store, context.scored, context.protocol)
    return score_sam1(model, regions, lambda name: read_image(files[name]), pick_device())


def log_comparison(record: SearchRecord, found: ComparatorScores) -> str:
    """Logs a comparator as a run nested in the search's, beside its trials, and returns its run id.

    The same weights under the same name are one run: a second call writes the same figures again.

    Raises:
        SearchError: If MLflow's store cannot be used, or does not hold the search's run.
    """
    tracker, parent = Tracker.connect(record.experiment, default_uri=record.tracking_uri), record.parent_run_id
    tracker.get_run(parent)  # fails before a run is made if this is another store than the search's
    scores, protocol = found.scores, found.scores.protocol
    identity = {RUN_KIND_TAG: RUN_KIND, "comparator": found.name, "weights_sha256": hash_file(found.weights)[:12]}
    origin = Origin(
        protocol=protocol.name,
        protocol_id=protocol.id,
        data_fingerprint=record.data_fingerprint,
        model=found.size,
        demo=record.demo,
        caveats=(*found.caveats, *record.caveats),
    )
    tags = {
        "caveats": "",
        **origin.to_tags(),
        "weights": found.weights.name,
        "split": "val",
        NOTE_TAG: f"**A comparator**: {found.name}, not trained here, scored on validation as every trial is.",
    }
    run_id = tracker.find_child(parent, identity)
    if run_id is None:
        run_id = tracker.start_child(parent, found.name, RUN_KIND, {**tags, **identity})
    figures = {**flatten_with_limits(scores, "val"), "dice_minus_zeroshot": found.verdict.overall.mean_difference}
    log_constants(tracker, run_id, figures, int(record.context.max_epochs))
    tracker.log_artifact(run_id, found.file)
    tracker.log_text(run_id, found.verdict.to_text(), "verdict_val.txt")
    tracker.finish(run_id)
    return run_id
