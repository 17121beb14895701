import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from training_regions import make_regions

from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.protocol.prompts import NEGATIVE, PADDING, POSITIVE, PROMPT_KINDS, Prompt, PromptSpec
from trainables.protocol.spec import PROTOCOLS, add_tiles
from trainables.recipe import Recipe, SamplingRecipe
from trainables.tiles.grid import Tiles
from trainables.training.batches import (
    HALF_MIX,
    Batch,
    Key,
    Sample,
    TrainingRegions,
    choose_prompt_spec,
    collate_samples,
    shrink_mask,
)

CLASSES = {1: "tumor", 2: "stroma"}


def list_batches(regions: TrainingRegions) -> list[Batch]:
    """Returns the batches of the first epoch, the regions in order."""
    size, indices = regions.recipe.optim.batch_size, range(len(regions.store))
    samples = [regions[Key(0, index)] for index in indices]
    joined = [collate_samples(samples[start : start + size]) for start in indices[::size]]
    return [batch for batch in joined if batch is not None]


@pytest.mark.parametrize("class_tokens", [0, 1])
def test_windows_are_cut_from_image_and_mask_alike_and_prompted(tiled_store: RegionStore, class_tokens: int) -> None:
    plain = make_regions(tiled_store, augment__kind="none", class_prompts__tokens=class_tokens)
    protocol = add_tiles(PROTOCOLS["auto" if class_tokens else "recorded"], Tiles(64))
    recipe = dataclasses.replace(plain.recipe, sampling=SamplingRecipe(windows=6, scale_jitter=0.3))
    regions = TrainingRegions(tiled_store, protocol, recipe, seed=3)
    keys = regions.list_keys(0, tiled_store.names)
    assert len(keys) == 6 and keys == regions.list_keys(0, tiled_store.names) != regions.list_keys(1, tiled_store.names)
    ids = [*tiled_store.classes]
    for key in keys:
        sample = regions[key]
        stored = torch.from_numpy(tiled_store.image(key.region, key.window))
        assert torch.allclose(sample.image.permute(2, 0, 1) / 255, stored, atol=0.5 / 255 + 1e-6)
        for order, target in zip(sample.class_index, sample.targets, strict=True):
            if order < len(ids):
                whole = shrink_mask(tiled_store.mask_resized(key.region, key.window) == ids[order])
                assert (target <= whole + 1e-6).all() and (not class_tokens or torch.equal(target, whole))


@pytest.mark.parametrize(("seed", "epoch"), [(3, 1), (4, 0)])
def test_epochs_and_seeds_differ(tissue_store: RegionStore, seed: int, epoch: int) -> None:
    first, again = make_regions(tissue_store)[Key(0, 0)], make_regions(tissue_store)[Key(0, 0)]
    other = make_regions(tissue_store, seed=seed)[Key(epoch, 0)]
    assert torch.equal(first.image, again.image) and not torch.equal(first.image, other.image)


def test_batches_have_the_shapes_and_ranges_they_say(tissue_store: RegionStore) -> None:
    batches = list_batches(make_regions(tissue_store))
    assert [len(batch.images) for batch in batches] == [2, 2, 1]
    for batch in batches:
        n_objects = len(batch.region_index)
        assert batch.images.shape[1:] == (256, 256, 3) and batch.images.dtype == torch.uint8
        scaled = batch.scale_images()
        assert scaled.shape[1:] == (3, 256, 256) and scaled.is_contiguous() and scaled.dtype == torch.float32
        assert torch.equal(scaled[0, 2], batch.images[0, :, :, 2] / 255) and 0.9 < scaled.max() <= 1
        assert batch.targets.shape == batch.valid.shape == (n_objects, 64, 64)
        assert 0 <= batch.targets.min() and batch.targets.max() <= 1
        assert batch.points.shape == (*batch.labels.shape, 2) and len(batch.labels) == n_objects
        assert len(batch.class_index) == n_objects and batch.class_index.max() < len(tissue_store.classes)
        assert set(batch.region_index.tolist()) == set(range(len(batch.images)))


def test_class_prompts_ask_for_every_name_everywhere_and_draw_nothing(write_store: Callable[..., RegionStore]) -> None:
    mask = np.ones((64, 64), np.uint8)
    mask[:, :16], mask[:8, 16:] = 9, 7  # ignored, and of no class
    store = write_store({"a": mask, "b": np.full((64, 64), 2, np.uint8)}, CLASSES, ignore=(9,))
    (batch,) = list_batches(make_regions(store, protocol="auto", class_prompts__tokens=3))
    assert batch.region_index.tolist() == [0, 0, 0, 1, 1, 1] and batch.class_index.tolist() == [0, 1, 2] * 2
    assert batch.points.shape == (6, 0, 2) and batch.labels.shape == (6, 0)
    targets = batch.targets.reshape(2, 3, 16, 16)
    torch.testing.assert_close(targets.sum(1), batch.valid.reshape(2, 3, 16, 16)[:, 0])  # each pixel that counts once
    assert sorted(targets[:, 1].mean((1, 2)).tolist()) == [0.0, 1.0]  # asked for where it is not, too


@pytest.mark.parametrize("protocol", ["recorded", "components"])
def test_targets_are_the_prompted_parts_of_their_class(tissue_store: RegionStore, protocol: str) -> None:
    regions = make_regions(tissue_store, protocol=protocol, augment__kind="none", prompts__max_objects=64)
    ids = list(tissue_store.classes)
    for position in range(len(regions.store)):
        sample, mask = regions[Key(0, position)], tissue_store.mask_resized(position)
        for order in range(len(ids)):
            targets = [t for t, o in zip(sample.targets, sample.class_index, strict=True) if o == order]
            pixels = 16 * sum(float(target.sum()) for target in targets)
            whole = int((mask == ids[order]).sum())
            assert len(targets) > 0 if whole > 500 else True
            assert pixels <= whole + 0.5
            if targets and protocol == "components":
                assert pixels > 0.98 * whole


@pytest.mark.parametrize("kind", ["flips", "elastic"])
def test_prompts_fall_where_their_targets_are(tissue_store: RegionStore, kind: str) -> None:
    regions = make_regions(tissue_store, augment__kind=kind, augment__strength=0.5, prompts__mix="points")
    for position in range(len(regions.store)):
        sample = regions[Key(0, position)]
        for prompt, target in zip(sample.prompts, sample.targets, strict=True):
            x, y = (prompt.points / 4).astype(int).T
            hit = target.numpy()[y, x]
            assert (hit[prompt.labels == POSITIVE] > 0).all() and (hit[prompt.labels == NEGATIVE] == 0).all()


def test_boxes_enclose_their_targets(tissue_store: RegionStore) -> None:
    sample = make_regions(tissue_store, prompts__mix="box")[Key(0, 1)]
    for prompt, target in zip(sample.prompts, sample.targets, strict=True):
        rows, columns = np.nonzero(target.numpy())
        corners = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert (prompt.points.reshape(4) // 4).tolist() == corners


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_region_shows_more_than_its_share_of_objects(tissue_store: RegionStore, limit: int) -> None:
    regions = make_regions(tissue_store, protocol="components", prompts__max_objects=limit)
    assert {len(regions[Key(0, position)].prompts) for position in range(len(regions.store))} == {limit}


def test_a_batch_without_any_object_is_left_out(write_store: Callable[..., RegionStore]) -> None:
    full, specks = np.ones((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    full[10:20] = 2
    specks[5, 5:9] = 1  # a component of 4 pixels, too few for the protocol
    store = write_store({"a": full, "b": specks}, CLASSES)
    (batch,) = list_batches(make_regions(store, protocol="components", augment__kind="none"))
    assert len(batch.images) == 2 and len(set(batch.region_index.tolist())) == 1
    alone = make_regions(store, protocol="components", augment__kind="none", optim__batch_size=1)
    assert collate_samples([alone[Key(0, 1)]]) is None
    assert [len(batch.images) for batch in list_batches(alone)] == [1]


def test_objects_that_are_scored_are_trained_on_however_small_the_region_becomes(
    write_store: Callable[..., RegionStore],
) -> None:
    centers = np.zeros((128, 256), np.uint8)
    centers[8:120:16, 8:240:32] = 1
    small = cv2.dilate(centers, np.ones((5, 5), np.uint8))  # 25 px each; the model's square shows 3 of them
    specks = cv2.dilate(centers, np.ones((3, 3), np.uint8))  # 9 px: too few to be scored, and to be trained on
    specks[:8, :8] = 2
    store = write_store({"a": small, "b": specks}, CLASSES)
    regions = make_regions(store, protocol="components", augment__kind="none", prompts__max_objects=64)
    for index, plan in enumerate(EvaluationSet(store, store.names, PROTOCOLS["components"]).plans):
        assert len(regions[Key(0, index)].prompts) == len(plan.tiles[0].objects) == (56, 1)[index]


def test_pixels_of_ignored_ids_are_marked(write_store: Callable[..., RegionStore]) -> None:
    mask = np.ones((64, 64), np.uint8)
    mask[:, :16] = 9
    store = write_store({"a": mask}, CLASSES, ignore=(9,))
    recipe = Recipe.from_flat({"augment.kind": "flips"})
    sample = TrainingRegions(store, PROTOCOLS["box"], recipe, seed=0)[Key(0, 0)]
    assert float(sample.valid.mean()) == 0.75
    # The class fills all that counts, so that target and valid pixels coincide, flips or not.
    assert torch.equal(sample.targets[0], sample.valid)


def make_sample(fill: float, n_points: tuple[int, ...], class_index: tuple[int, ...]) -> Sample:
    prompts = tuple(Prompt(np.full((n, 2), fill, np.float32), np.ones(n, np.int32)) for n in n_points)
    targets = tuple(torch.full((4, 4), float(fill + i)) for i in range(len(n_points)))
    image, valid = torch.full((16, 16, 3), int(fill), dtype=torch.uint8), torch.full((4, 4), float(fill))
    return Sample(image, prompts, targets, valid, class_index)


def test_collated_objects_keep_their_region() -> None:
    batch = collate_samples([make_sample(1, (1, 3), (4, 0)), make_sample(2, (), ()), make_sample(5, (2,), (1,))])
    assert batch is not None
    assert batch.region_index.tolist() == [0, 0, 2]
    assert batch.class_index.tolist() == [4, 0, 1]
    assert batch.images[:, 0, 0, 0].tolist() == [1, 2, 5]
    assert batch.targets[:, 0, 0].tolist() == [1, 2, 5]
    assert batch.valid[:, 0, 0].tolist() == [1, 1, 5]
    assert batch.labels.tolist() == [[1, PADDING, PADDING], [1, 1, 1], [1, 1, PADDING]]
    assert batch.to(torch.device("cpu")).labels.tolist() == batch.labels.tolist()


@pytest.mark.parametrize("mix", ["protocol", "box", "box-neg", "centroid", "points"])
def test_a_mix_of_one_kind_is_that_kind_with_jitter_and_a_scaled_margin(mix: str) -> None:
    recipe = Recipe.from_flat({"prompts.mix": mix, "prompts.box_jitter": 0.1})
    spec = choose_prompt_spec(recipe, PROTOCOLS["recorded"], np.random.default_rng(0), 0.25)
    kind = PROMPT_KINDS["box-neg" if mix == "protocol" else mix]
    assert spec == dataclasses.replace(kind, box_jitter=0.1, negative_margin_px=2.5)


def test_a_mix_gives_each_kind_its_equal_share_and_half_is_of_boxes_and_centroids_with_negative_points() -> None:
    def draw(mix: str, protocol: str) -> list[PromptSpec]:
        recipe, rng = Recipe.from_flat({"prompts.mix": mix}), np.random.default_rng(0)
        return [choose_prompt_spec(recipe, PROTOCOLS[protocol], rng, 1.0) for _ in range(400)]

    mixed, half = draw("mixed", "recorded"), draw("half", "centroid")
    assert all(70 < mixed.count(kind) < 130 for kind in PROMPT_KINDS.values())
    assert set(half) == set(HALF_MIX) and 160 < half.count(HALF_MIX[0]) < 240
    assert {(spec.box, spec.centroid, spec.n_negative) for spec in half} == {(True, False, 5), (False, True, 5)}


def test_shrinking_averages_blocks_of_four() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :6] = True
    assert shrink_mask(mask).tolist() == [[1, 0.5], [0, 0]]


def test_a_region_has_a_name_for_each_of_its_eight_views_and_none_where_views_hardly_come_again(
    tissue_store: RegionStore, tiled_store: RegionStore
) -> None:
    regions = make_regions(tissue_store, augment__kind="flips")
    samples = [regions[Key(epoch, index)] for epoch in range(40) for index in range(2)]
    shown = {(sample.picture, sample.image.numpy().tobytes()) for sample in samples}
    assert len(shown) == len({name for name, _ in shown}) == len({pixels for _, pixels in shown}) == 16
    batch = collate_samples(samples[:2])
    assert batch is not None and batch.pictures == (samples[0].picture, samples[1].picture)
    for values in ({"augment__kind": "color"}, {"augment__kind": "flips", "augment__rotation_degrees": 5.0}):
        assert make_regions(tissue_store, **values)[Key(0, 0)].picture == ""
    protocol = add_tiles(PROTOCOLS["recorded"], Tiles(64))
    windows = TrainingRegions(tiled_store, protocol, Recipe(), seed=0)
    assert windows[windows.list_keys(0, tiled_store.names[:1])[0]].picture == ""
