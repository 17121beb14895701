"""CLIP and a probe on its features name the masks that zero-shot SAM2 predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.cluster.workers import call_with_resources
from search.plan.clip_options import NamingSettings
from search.run_folder.layout import NAMING_FOLDER
from trainables.context import TrialContext

if TYPE_CHECKING:
    from search.stages.session import Session
    from trainables.clip.report import NamingReport


def name_masks_of(session: Session, part: str, names: Sequence[str]) -> dict[str, float]:
    """Names the zero-shot masks of ``val``'s or ``test``'s regions and writes the report; does nothing without weights.

    Returns metrics such as ``val_naming_clip_accuracy``.
    """
    settings = session.plan.model.naming
    if isinstance(settings, str):
        if part == "val" and settings:
            session.say(settings)
        return {}
    session.say(f"naming the zero-shot masks on {part} ...")
    report = call_with_resources(
        session.resources, f"names of the masks on {part}", name_regions, session.context, settings, tuple(names)
    )
    write_naming(report, session.plan.folder / NAMING_FOLDER, part)
    session.say(report.to_text())
    return {f"{part}_{name}": value for name, value in report.to_flat().items()}


def name_regions(context: TrialContext, settings: NamingSettings, names: Sequence[str]) -> NamingReport:
    """Predicts masks by zero-shot SAM2 under the search's protocol, and names them; runs where a trial would.

    The right name of a mask is the class that was prompted. The probe learns from true masks of training
    regions, in a cross-validation for each fold from its own.

    Raises:
        DataError: If no region shows a class that the protocol prompts.
    """
    from trainables.clip.mask_names import encode_masks, list_true_masks, name_masks
    from trainables.clip.model import load_clip
    from trainables.data.store import RegionStore
    from trainables.errors import DataError
    from trainables.evaluation.candidates import load_candidate
    from trainables.evaluation.evaluation_set import EvaluationSet
    from trainables.evaluation.evaluator import predict_masks
    from trainables.model.device import pick_device, use_ray_share

    use_ray_share()
    store = RegionStore(context.store_folder)
    device = pick_device()
    clip = load_clip(settings.clip_model, settings.clip_weights, device)
    regions = EvaluationSet(store, names, context.protocol)
    predictions = predict_masks(load_candidate(context, None), regions, device)
    predicted = (
        (plan.index, pair.class_id, mask)
        for plan, masks in predictions
        for pair, mask in zip(plan.pairs, masks, strict=True)
    )
    items = encode_masks(clip, store, predicted)
    if not items.files:
        what = "no region to name shows a class in components that the protocol prompts"
        raise DataError.at(store.folder, what, "check the classes and the split")
    parts = plan_parts(context, names)
    learned = sorted({name for train, _ in parts for name in train})
    truths = encode_masks(clip, store, list_true_masks(store, learned, context.protocol))
    return name_masks(
        clip, settings.texts, [(truths.select(set(train)), items.select(set(named))) for train, named in parts]
    )


def plan_parts(context: TrialContext, names: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Returns (training regions, regions to name) for each probe; the two are disjoint.

    In a cross-validation a region that some fold validates on is named by that fold's training regions.
    """
    parts = [(fold.train, tuple(name for name in names if name in fold.val)) for fold in context.list_folds()]
    validated = {name for _, named in parts for name in named}
    others = tuple(name for name in names if name not in validated)
    everything = dict.fromkeys(name for fold in context.list_folds() for name in fold.train)
    parts.append((tuple(name for name in everything if name not in others), others))
    return [(train, named) for train, named in parts if named]


def write_naming(report: NamingReport, folder: Path, part: str) -> None:
    """Writes a report's text, its items, and each method's confusion matrix as CSV and PNG.

    Their names start with the part, ``val`` or ``test``. The folder is made if missing.

    Raises:
        OSError: If a file cannot be written.
    """
    import cv2

    from trainables.clip.confusion_picture import draw_confusion
    from trainables.clip.report import EMPTY

    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{part}_naming.txt": report.to_text(), f"{part}_naming_items.csv": report.to_items_csv()}
    for method in report.given:
        texts[f"{part}_confusion_{method}.csv"] = report.to_confusion_csv(method)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for method in report.given:
        title = f"{part}: {method} ({report.clip}), accuracy {report.accuracy(method):.3f}"
        columns = [*report.classes, EMPTY]
        picture = draw_confusion(report.confusion(method), report.classes, columns, title)
        path = folder / f"{part}_confusion_{method}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path} cannot be written")
