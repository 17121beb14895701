"""Names by CLIP and by the probe: on features made by hand, and on tissue with a tiny random CLIP."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.clip.mask_names import (
    MaskFeatures,
    classify_zero_shot,
    encode_crops,
    encode_masks,
    encode_texts,
    fit_probe,
    list_true_masks,
    name_masks,
)
from trainables.clip.model import ClipModel, load_clip
from trainables.clip.report import EMPTY
from trainables.data.store import RegionStore
from trainables.protocol.spec import PROTOCOLS

TEXTS = {"tumor": ("a tumor", "purple cells"), "stroma": ("pink fibers",), "vessel": ("a vessel", "a lumen", "blood")}


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> ClipModel:
    return load_clip(None, str(tiny_clip), torch.device("cpu"))


def make_crops(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), np.uint8) for side in rng.integers(1, 90, n)]


def make_items(n: int, noise: float, n_patients: int = 8, seed: int = 0) -> MaskFeatures:
    """Three classes around three directions of 16; every patient shows each."""
    rng = np.random.default_rng(seed)
    classes = np.array(list(TEXTS))[np.arange(n) % 3]
    features = np.eye(3, 16)[np.arange(n) % 3] + noise * rng.standard_normal((n, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return MaskFeatures(
        files=tuple(f"r{number}" for number in range(n)),
        patients=tuple(f"p{number // 3 % n_patients}" for number in range(n)),
        classes=tuple(classes.tolist()),
        is_empty=(False,) * n,
        features=features.astype(np.float32),
    )


def empty(items: MaskFeatures, position: int) -> MaskFeatures:
    flags = tuple(number == position for number in range(len(items.files)))
    return replace(items, is_empty=flags, features=items.features * ~np.array(flags)[:, None])


def test_a_class_s_feature_is_the_mean_of_its_texts(clip: ClipModel) -> None:
    features = encode_texts(clip, TEXTS)
    assert features.shape == (3, 32) and features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    each = np.concatenate([encode_texts(clip, {"one": (text,)}) for text in TEXTS["vessel"]]).mean(axis=0)
    assert features[2] == pytest.approx(each / np.linalg.norm(each), abs=1e-5)
    assert np.array_equal(encode_texts(clip, {"stroma": TEXTS["stroma"]})[0], features[1])


@pytest.mark.parametrize("crops_per_pass", [1, 3, 7, 100])
def test_a_batch_gives_what_single_crops_give(clip: ClipModel, crops_per_pass: int) -> None:
    crops = make_crops(7)
    batched = encode_crops(clip, iter(crops), crops_per_pass)
    single = np.concatenate([encode_crops(clip, [crop]) for crop in crops])
    assert np.abs(batched - single).max() < 1e-5
    assert np.linalg.norm(batched, axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    assert encode_crops(clip, [], crops_per_pass).shape == (0, 32)


def test_features_repeat_to_the_last_bit(clip: ClipModel, tiny_clip: Path) -> None:
    again = load_clip(None, str(tiny_clip), torch.device("cpu"))
    assert np.array_equal(encode_crops(clip, make_crops(5)), encode_crops(again, make_crops(5)))
    assert np.array_equal(encode_texts(clip, TEXTS), encode_texts(again, TEXTS))


def test_zero_shot_takes_the_smallest_angle() -> None:
    items = np.array([[1, 0.2], [-1, 0], [0.1, 1], [0, 0]], np.float32)
    texts = np.array([[0, 1], [1, 0]], np.float32)
    assert classify_zero_shot(items, texts).tolist() == [1, 0, 0, 0]


def test_the_probe_learns_separable_classes_and_nothing_from_noise() -> None:
    train, test = make_items(60, 0.1), make_items(300, 0.1, seed=1)
    noise = np.random.default_rng(3).permutation(train.classes)
    probe, blind = fit_probe(train), fit_probe(replace(train, classes=tuple(noise.tolist())))
    assert probe is not None and blind is not None
    assert (probe.predict(test.features) == np.array(test.classes)).mean() == 1
    assert (blind.predict(test.features) == np.array(test.classes)).mean() < 0.7


@pytest.mark.parametrize("n_patients", [1, 2, 20])
def test_the_probe_repeats_for_any_number_of_patients(n_patients: int) -> None:
    train, test = make_items(40, 0.4, n_patients), make_items(20, 0.4, seed=1)
    first, second = fit_probe(train), fit_probe(train)
    assert first is not None and second is not None
    assert np.array_equal(first.predict_proba(test.features), second.predict_proba(test.features))


def test_a_class_in_one_patient_alone_breaks_no_fold() -> None:
    """Two patients with one class each: no fold could learn, so nothing is chosen on folds."""
    items = make_items(6, 0.1).select({"r0", "r1", "r3", "r4"})
    probe = fit_probe(replace(items, patients=("a", "b", "a", "b")))
    assert probe is not None and probe.C == 1


def test_one_class_makes_no_probe(clip: ClipModel) -> None:
    train = make_items(9, 0.1).select({"r0", "r3", "r6"})
    assert fit_probe(train) is None
    report = name_masks(clip, TEXTS, [(train, replace(train, features=np.ones((3, 32), np.float32)))])
    assert list(report.given) == ["clip"]
    assert report.notes == ("no probe: the training regions show fewer than two classes",)


def pad(items: MaskFeatures) -> MaskFeatures:
    """As wide as the tiny CLIP's features."""
    return replace(items, features=np.pad(items.features, ((0, 0), (0, 16))))


def test_empty_masks_have_no_name_and_teach_nothing(clip: ClipModel) -> None:
    train, items = empty(pad(make_items(30, 0.1)), 4), empty(pad(make_items(6, 0.1, seed=1)), 2)
    report = name_masks(clip, TEXTS, [(train, items)])
    assert [names[2] for names in report.given.values()] == [EMPTY, EMPTY]
    assert report.n_empty == 1
    assert report.accuracy("probe") == pytest.approx(5 / 6)


def test_parts_are_named_each_by_its_own_probe(clip: ClipModel) -> None:
    """The second fold's training labels are turned round: so are its names."""
    train, items = pad(make_items(30, 0.1)), pad(make_items(6, 0.1, seed=1))
    turned = dict(zip(TEXTS, [*list(TEXTS)[1:], "tumor"], strict=True))
    other = replace(train, classes=tuple(turned[name] for name in train.classes))
    report = name_masks(clip, TEXTS, [(train, items), (other, items)])
    assert report.given["probe"] == (*items.classes, *(turned[name] for name in items.classes))
    assert report.actual == items.classes * 2


def test_a_class_that_the_probe_never_saw_is_noted(clip: ClipModel) -> None:
    items = pad(make_items(30, 0.1))
    train = items.select({file for file, name in zip(items.files, items.classes, strict=True) if name != "vessel"})
    report = name_masks(clip, TEXTS, [(train, items)])
    assert report.notes == ("the probe never saw vessel: no training region shows it",)
    assert report.f1_per_class("probe")["vessel"] == 0


def test_true_masks_of_tissue_are_encoded_one_by_one(clip: ClipModel, tissue_store: RegionStore) -> None:
    protocol = PROTOCOLS["recorded"]
    masks = list(list_true_masks(tissue_store, tissue_store.names[:3], protocol))
    items = encode_masks(clip, tissue_store, masks)
    shown = tissue_store.class_presence()
    pairs = list(zip(items.files, items.classes, strict=True))
    assert pairs == [
        (name, tissue_store.classes[one])
        for name in tissue_store.names[:3]
        for one in tissue_store.classes
        if one in shown[name]
    ]
    assert len(np.unique(items.features, axis=0)) == len(pairs)


def test_an_empty_mask_keeps_its_place(clip: ClipModel, tissue_store: RegionStore) -> None:
    masks = list(list_true_masks(tissue_store, tissue_store.names[:1], PROTOCOLS["box"]))
    index, class_id, mask = masks[0]
    both = encode_masks(clip, tissue_store, [(index, class_id, np.zeros_like(mask)), *masks])
    assert both.is_empty == (True, *[False] * len(masks))
    assert not both.features[0].any()
    assert np.array_equal(both.features[1:], encode_masks(clip, tissue_store, masks).features)
    nothing = encode_masks(clip, tissue_store, [(index, class_id, np.zeros_like(mask))])
    assert nothing.features.shape == (1, 32)
