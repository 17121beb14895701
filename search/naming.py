"""The zero-shot pipeline with names: SAM2's masks are named by CLIP and by a probe on its features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.command import expand_path
from search.errors import ConfigError
from search.prompt_texts import PromptTexts, read_prompt_texts
from trainables.context import TrialContext
from trainables.errors import Finding, InputError

if TYPE_CHECKING:
    from trainables.naming_report import NamingReport

HOW_TO_GET_WEIGHTS = (
    "naming skipped: it needs CLIP weights; download open_clip_model.safetensors of a model and pass "
    "--clip-weights FILE, or pass a hub id: --clip-weights laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
)
ONE_CLASS = "naming skipped: the data has one class, so there is nothing to tell apart"

NAMING_FOLDER = "naming"  # in the search's


@dataclass(frozen=True)
class NamingSettings:
    """What names the masks.

    Attributes:
        clip_model: Name of an open_clip model; None for what comes with the weights, or ViT-B-32.
        clip_weights: A file or folder, absolute, or a hub id.
        texts: What CLIP is told about each class.
    """

    clip_model: str | None
    clip_weights: str
    texts: PromptTexts


def check_naming(arguments: argparse.Namespace, classes: Sequence[str] | None) -> NamingSettings | str:
    """Reads and checks the options of the naming step, and loads the weights once.

    Args:
        arguments: With ``clip_model``, ``clip_weights`` and ``prompt_texts``, each None if not given.
        classes: Names of the data set's classes, in its order; None where the data cannot be read.

    Returns:
        The settings, or the line that says why nothing will be named.

    Raises:
        ConfigError: With every finding: an unknown model, weights that are missing or do not fit, bad texts.
    """
    findings: list[Finding] = []
    given = arguments.clip_weights is not None
    if arguments.clip_model is not None or given:
        findings += _check_clip(arguments.clip_model, arguments.clip_weights)
    texts: PromptTexts = {}
    single = classes is not None and len(classes) < 2
    if arguments.prompt_texts is not None or (given and not single):
        path = None if arguments.prompt_texts is None else expand_path(arguments.prompt_texts)
        try:
            texts = read_prompt_texts(path, classes)
        except ConfigError as error:
            findings += error.findings
    if findings:
        raise ConfigError(findings)
    if not given:
        return HOW_TO_GET_WEIGHTS
    if single:
        return ONE_CLASS
    weights = expand_path(arguments.clip_weights)
    # A worker's folder may be another than the one that the command was given in.
    absolute = str(weights) if weights.exists() else arguments.clip_weights
    return NamingSettings(arguments.clip_model, absolute, texts)


def name_regions(context: TrialContext, settings: NamingSettings, names: Sequence[str]) -> NamingReport:
    """Predicts masks by zero-shot SAM2 under the search's protocol, and names them; runs where a trial would.

    The right name of a mask is the class that was prompted. The probe learns from true masks of training
    regions, in a cross-validation for each fold from its own.

    Args:
        context: What the trials of the search share.
        settings: From :func:`check_naming`.
        names: Which regions: validation's, or test's when they are opened.

    Raises:
        DataError: If no region shows a class that the protocol prompts.
    """
    from trainables.clip_model import load_clip
    from trainables.data.store import RegionStore
    from trainables.device import pick_device
    from trainables.errors import DataError
    from trainables.evaluate import predict_masks
    from trainables.evaluation_set import EvaluationSet
    from trainables.naming import encode_masks, list_predicted_masks, list_true_masks, name_masks
    from trainables.scoring import load_candidate

    context.use_share()
    store = RegionStore.open(Path(context.store_folder))
    device = pick_device()
    clip = load_clip(settings.clip_model, settings.clip_weights, device)
    regions = EvaluationSet(store, names, context.protocol)
    predictions = predict_masks(load_candidate(context, None), regions, device)
    items = encode_masks(clip, store, list_predicted_masks(predictions))
    if not items.files:
        what = "no region to name shows a class in components that the protocol prompts"
        raise DataError([Finding(str(store.folder), what, "check the classes and the split")])
    parts = plan_parts(context, names)
    learned = sorted({name for train, _ in parts for name in train})
    truths = encode_masks(clip, store, list_true_masks(store, learned, context.protocol))
    return name_masks(
        clip, settings.texts, [(truths.select(set(train)), items.select(set(named))) for train, named in parts]
    )


def plan_parts(context: TrialContext, names: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs regions to name with the regions that their probe may learn from, none of which is among them.

    In a cross-validation a region that some fold validates on is named by that fold's training regions.
    """
    parts = [(fold.train, tuple(name for name in names if name in fold.val)) for fold in context.list_folds()]
    validated = {name for _, named in parts for name in named}
    others = tuple(name for name in names if name not in validated)
    everything = dict.fromkeys(name for fold in context.list_folds() for name in fold.train)
    parts.append((tuple(name for name in everything if name not in others), others))
    return [(train, named) for train, named in parts if named]


def write_naming(report: NamingReport, folder: Path, part: str) -> list[Path]:
    """Writes a report's text, its items, and each method's confusion matrix as CSV and PNG.

    Args:
        report: From :func:`name_regions`.
        folder: Where to; made if missing.
        part: ``val`` or ``test``, which starts the files' names.

    Returns:
        The files.

    Raises:
        OSError: If a file cannot be written.
    """
    import cv2

    from trainables.confusion_picture import draw_confusion
    from trainables.naming_report import EMPTY

    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{part}_naming.txt": report.to_text(), f"{part}_naming_items.csv": report.to_items_csv()}
    for method in report.given:
        texts[f"{part}_confusion_{method}.csv"] = report.to_confusion_csv(method)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    written = [folder / name for name in texts]
    for method in report.given:
        title = f"{part}: {method} ({report.clip}), accuracy {report.accuracy(method):.3f}"
        columns = [*report.classes, EMPTY]
        picture = draw_confusion(report.confusion(method), report.classes, columns, title)
        written.append(folder / f"{part}_confusion_{method}.png")
        if not cv2.imwrite(str(written[-1]), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{written[-1]} cannot be written")
    return written


def flatten_naming(report: NamingReport, part: str) -> dict[str, float]:
    """Returns a report's figures as metrics: ``val_naming_clip_accuracy``, ``val_naming_clip_f1/<class>`` ..."""
    return {f"{part}_{name}": value for name, value in report.to_flat().items()}


def _check_clip(model: str | None, weights: str | None) -> list[Finding]:
    """Returns what is wrong with a model's name and weights; imports late, as open_clip costs seconds."""
    import torch

    from trainables.clip_model import check_clip_name, load_clip

    try:
        if weights is None:
            assert model is not None
            check_clip_name(model)
        else:
            load_clip(model, weights, torch.device("cpu"))
    except InputError as error:
        return list(error.findings)
    return []
