"""Names masks by their appearance: CLIP image features against CLIP text features, and a probe on the former."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float32, Int64
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import Tensor
from torch.nn import functional as F

from trainables.clip.crops import Crop, crop_region
from trainables.clip.model import ClipModel
from trainables.clip.report import EMPTY, NamingReport
from trainables.data.store import RegionStore
from trainables.protocol.components import BoolMask, unite
from trainables.protocol.spec import Protocol, find_components

Features = Float32[np.ndarray, "items width"]

# Inverse strengths of the probe's L2 penalty; one is chosen on folds of the training patients.
PROBE_STRENGTHS = tuple(10.0**power for power in range(-1, 5))
MAX_FOLDS = 5
CROPS_PER_PASS = 32


@dataclass(frozen=True)
class MaskFeatures:
    """Features of the masks of some regions: an item per (region, class) pair, a unit vector each.

    The features of an item whose mask has no pixel are 0.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    is_empty: tuple[bool, ...]
    features: Features

    def select(self, files: Collection[str]) -> MaskFeatures:
        """Returns the items of some regions."""
        kept = [position for position, file in enumerate(self.files) if file in files]
        return MaskFeatures(
            files=tuple(self.files[position] for position in kept),
            patients=tuple(self.patients[position] for position in kept),
            classes=tuple(self.classes[position] for position in kept),
            is_empty=tuple(self.is_empty[position] for position in kept),
            features=self.features[kept],
        )


def encode_texts(clip: ClipModel, texts: Mapping[str, Sequence[str]]) -> Features:
    """Returns a unit vector per class, in order: the mean over its texts (prompt ensembling, Radford et al. 2021)."""
    rows = []
    with torch.inference_mode():
        for each in texts.values():
            tokens = clip.tokenize(list(each)).to(clip.device)
            encoded = F.normalize(clip.network.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]
            rows.append(F.normalize(encoded.mean(dim=0), dim=-1))
    features: Features = torch.stack(rows).cpu().numpy()
    return features


def encode_crops(clip: ClipModel, crops: Iterable[Crop], crops_per_pass: int = CROPS_PER_PASS) -> Features:
    """Returns a unit vector per crop, in their order."""
    passes, pictures = [], (clip.preprocess(Image.fromarray(crop)) for crop in crops)
    while batch := list(islice(pictures, crops_per_pass)):
        passes.append(_encode_pictures(clip, batch))
    if not passes:  # an empty array is as wide as any other
        passes.append(_encode_pictures(clip, [clip.preprocess(Image.new("RGB", (8, 8)))])[:0])
    return np.concatenate(passes)


def encode_masks(clip: ClipModel, store: RegionStore, masks: Iterable[tuple[int, int, BoolMask]]) -> MaskFeatures:
    """Crops and encodes masks, each with its region's index and its class id."""
    items: list[tuple[str, str, str, bool]] = []  # file, patient, class, and whether the mask is empty

    def cut() -> Iterator[Crop]:
        for index, class_id, mask in masks:
            crop = crop_region(store.image(index), mask, store.size(index), clip.mean)
            items.append((store.names[index], store.patients[index], store.classes[class_id], crop is None))
            if crop is not None:
                yield crop

    shown = encode_crops(clip, cut())
    files, patients, classes, is_empty = zip(*items, strict=True) if items else ((), (), (), ())
    features = np.zeros((len(items), shown.shape[1]), np.float32)
    features[~np.array(is_empty, bool)] = shown
    return MaskFeatures(files, patients, classes, is_empty, features)


def list_true_masks(
    store: RegionStore, names: Sequence[str], protocol: Protocol
) -> Iterator[tuple[int, int, BoolMask]]:
    """Yields region index, class id and the true pixels of the components that the protocol would prompt."""
    for index in map(store.index, names):
        mask = store.mask(index)
        for class_id in store.classes:
            if components := find_components(mask == class_id, protocol):
                yield index, class_id, unite(components)


def classify_zero_shot(features: Features, text_features: Features) -> Int64[np.ndarray, " items"]:
    """Returns for each item the row of the text feature at the smallest angle; the first of ties."""
    rows: Int64[np.ndarray, " items"] = np.argmax(features @ text_features.T, axis=1)
    return rows


def fit_probe(items: MaskFeatures) -> LogisticRegression | None:
    """Fits a logistic regression on features, by L-BFGS; its penalty is chosen on folds of patients.

    Empty masks are left out. None if the items show fewer than two classes.
    """
    kept = ~np.array(items.is_empty, bool)
    features, classes = items.features[kept], np.array(items.classes)[kept]
    patients = np.array(items.patients)[kept]
    if len(set(classes)) < 2:
        return None
    probe = LogisticRegression(max_iter=2000, class_weight="balanced")
    n_folds = min(MAX_FOLDS, len(set(patients)))
    if not _can_fold(classes, patients, n_folds):
        return probe.fit(features, classes)
    search = GridSearchCV(probe, {"C": list(PROBE_STRENGTHS)}, scoring="f1_macro", cv=GroupKFold(n_folds), refit=False)
    search.fit(features, classes, groups=patients)
    # The middle one of equally good strengths: where classes separate easily, many tie.
    scores = search.cv_results_["mean_test_score"]
    best = [strength for strength, score in zip(PROBE_STRENGTHS, scores, strict=True) if score == scores.max()]
    return probe.set_params(C=best[len(best) // 2]).fit(features, classes)


def name_masks(
    clip: ClipModel, texts: Mapping[str, Sequence[str]], parts: Sequence[tuple[MaskFeatures, MaskFeatures]]
) -> NamingReport:
    """Names masks by zero-shot CLIP, and by probes that are fitted on true masks of other regions.

    The texts describe each class, in the data set's order. A part is the true masks of training regions and the masks
    to name, encoded by the same model: one such pair, or one per fold.
    """
    classes, text_features = tuple(texts), encode_texts(clip, texts)
    by_clip: list[str] = []
    by_probe: list[str] = []
    notes: dict[str, None] = {}  # a set in order of insertion, as folds repeat each other
    for train, items in parts:
        chosen = [classes[row] for row in classify_zero_shot(items.features, text_features)]
        by_clip += _mark_empty(items, chosen)
        probe = fit_probe(train)
        if probe is None:
            notes["no probe: the training regions show fewer than two classes"] = None
            continue
        by_probe += _mark_empty(items, probe.predict(items.features).tolist())
        if unseen := [name for name in classes if name not in probe.classes_]:
            notes[f"the probe never saw {', '.join(unseen)}: no training region shows it"] = None
    given = {"clip": tuple(by_clip)}
    if len(by_probe) == len(by_clip):  # else a fold has no probe, and a score of the others would mislead
        given["probe"] = tuple(by_probe)
    return NamingReport(
        clip=clip.name,
        classes=classes,
        files=tuple(file for _, items in parts for file in items.files),
        actual=tuple(name for _, items in parts for name in items.classes),
        given=given,
        notes=tuple(notes),
    )


def _mark_empty(items: MaskFeatures, names: Sequence[str]) -> list[str]:
    return [EMPTY if empty else name for empty, name in zip(items.is_empty, names, strict=True)]


def _encode_pictures(clip: ClipModel, pictures: Sequence[Tensor]) -> Features:
    with torch.inference_mode():
        batch = torch.stack(list(pictures)).to(clip.device)
        encoded = clip.network.encode_image(batch).float()  # type: ignore[operator]
        features: Features = F.normalize(encoded, dim=-1).cpu().numpy()
    return features


def _can_fold(classes: np.ndarray, patients: np.ndarray, n_folds: int) -> bool:
    """Returns whether the rest of every fold shows at least two classes."""
    if n_folds < 2:
        return False
    folds = GroupKFold(n_folds).split(classes, classes, patients)
    return all(len(set(classes[rest])) >= 2 for rest, _ in folds)
