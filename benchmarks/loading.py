"""What loading costs: augmentation against albumentations' own, and an epoch against the bare loop in memory.

python -m benchmarks.loading

- CPU time of augmenting one region of 1024 px on one core, by kind: albumentations' own transforms over ours; and of
  all that a loading process does with it: read, augment, draw prompts, make targets.
- An epoch of nano on the demo with every augmentation on and one loader, after a validation as in a search: over the
  bare loop on the same batches in memory; and the share of it in which training waited. It takes two free cores.

Both sides of a ratio are interleaved in one run: the median over the repeats, with the least and the greatest. Other
work on the machine hardly touches CPU times, and spoils the second pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from trainables.augmentation.augmenter import ELASTIC_SIGMA, ELASTIC_SPREAD, Augmenter, seed_steps
from trainables.context import TrialContext
from trainables.data.regions import read_regions
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES, make_region, write_demo
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import AugmentRecipe, Recipe
from trainables.training.batches import Batch, TrainingRegions
from trainables.training.engine import train_epoch
from trainables.training.fine_tune import FineTune
from trainables.training.loader import BatchLoader

T = TypeVar("T")

KINDS = ("stain", "elastic", "all")
STRENGTH = 0.5  # as far as lora.yaml goes
SIDE_PX, N_SEEDS, N_LOADED = 1024, 10, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each kind (default: 5)")
    repeats: int = parser.parse_args(argv).repeats
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)
    print(f"augmenting one region of {SIDE_PX} px on one core, strength {STRENGTH:g}: albumentations' own / ours")
    for kind in KINDS:
        pairs = compare_augmentation(kind, repeats)
        ratios, ours_ms = [theirs / ours for theirs, ours in pairs], [1e3 * ours for _, ours in pairs]
        print(f"  {kind:8} {describe(ratios)}  ({np.median(ours_ms):.0f} ms)", flush=True)
    print(f"loading one region of {SIDE_PX} px on one core, in ms: protocol recorded, strength {STRENGTH:g}")
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), SIDE_PX, N_LOADED)
        for kind in ("none", "flips", "all"):
            print(f"  {kind:8} {describe([1e3 * each for each in time_loading(store, kind, repeats)])}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = compare_epochs(Path(folder), repeats)
    print("an epoch of nano on the demo, every augmentation on")
    for name, values in figures.items():
        print(f"  {name:46} {describe(values)}")
    return 0


def describe(values: Sequence[float]) -> str:
    """Returns the median with the least and the greatest."""
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def compare_augmentation(kind: str, repeats: int) -> list[tuple[float, float]]:
    """Returns CPU seconds a region of albumentations' own transforms and of ours, with the same seeds."""
    image, mask = make_region(np.random.default_rng(0), SIDE_PX)
    recipe = AugmentRecipe(kind=kind, strength=STRENGTH)
    ours, stock = Augmenter(recipe), build_stock(recipe)

    def augment_stock(seed: int) -> object:
        seed_steps(stock, seed)
        return stock(image=image, mask=mask)

    for seed in range(2):  # so that nothing is done for the first time
        augment_stock(seed), ours(image, mask, seed)
    pairs = []
    for _ in range(repeats):
        theirs_s = ours_s = 0.0
        for seed in range(N_SEEDS):
            theirs_s += time_cpu(functools.partial(augment_stock, seed))[0]
            ours_s += time_cpu(functools.partial(ours, image, mask, seed))[0]
        pairs.append((theirs_s / N_SEEDS, ours_s / N_SEEDS))
    return pairs


def make_store(folder: Path, side_px: int, n_regions: int) -> RegionStore:
    """Writes synthetic tissue as a data set of its own and decodes it; what a folder holds already is used again."""
    data = folder / "data"
    for index in range(0 if data.is_dir() else n_regions):
        for kind in ("images", "masks"):
            (data / kind).mkdir(parents=True, exist_ok=True)
        image, mask = make_region(np.random.default_rng(index), side_px)
        cv2.imwrite(str(data / "images" / f"r{index}.png"), image[..., ::-1])
        cv2.imwrite(str(data / "masks" / f"r{index}.png"), mask)
    (data / "dataset.yaml").write_text(f"classes: {DEMO_CLASSES}\n")
    return RegionStore.build(read_regions(data), side_px, folder / "cache")


def time_loading(store: RegionStore, kind: str, repeats: int) -> list[float]:
    """Returns the CPU seconds of loading a region, a value an epoch over all of them."""
    recipe = Recipe.from_flat({"augment.kind": kind, "augment.strength": STRENGTH})
    loader = BatchLoader(TrainingRegions(store, PROTOCOLS["recorded"], recipe, seed=0), n_workers=0, pin_memory=False)
    epochs = [time_cpu(functools.partial(list, loader.load(epoch, store.names)))[0] for epoch in range(repeats + 1)]
    return [seconds / len(store) for seconds in epochs[1:]]  # the first does something for the first time


def build_stock(recipe: AugmentRecipe):  # type: ignore[no-untyped-def]
    """Builds the pipeline of a recipe from albumentations' own transforms, with the same ranges."""
    import albumentations as A

    s = recipe.strength
    factors = (1 - s, 1 + s)
    sigma_px = ELASTIC_SIGMA * SIDE_PX
    # Uniform noise has a variance of 1/3; smoothing divides it by 4 pi sigma squared.
    alpha = ELASTIC_SPREAD * s * SIDE_PX * 2 * math.sqrt(3 * math.pi) * sigma_px
    changes = {
        "color": A.ColorJitter(factors, factors, factors, (-s / 4, s / 4), p=0.8),
        "stain": A.HEStain(
            intensity_scale_range=(1 - 0.3 * s, 1 + 0.3 * s), intensity_shift_range=(-0.2 * s, 0.2 * s), p=0.8
        ),
        "elastic": A.ElasticTransform(
            alpha, sigma_px, noise_distribution="uniform", border_mode=cv2.BORDER_REFLECT_101, p=0.5
        ),
    }
    return A.Compose([A.D4(p=1.0), *(step for kind, step in changes.items() if recipe.kind in (kind, "all"))], seed=0)


def time_cpu(work: Callable[[], T]) -> tuple[float, T]:
    """Returns the CPU seconds of this process that something took, and what it returned."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def compare_epochs(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Returns the figures of the epochs, a value a repeat."""
    write_demo(folder / "demo")
    store = RegionStore.build(read_regions(folder / "demo"), 256, folder / "cache")
    names, protocol = store.names, PROTOCOLS["recorded"]
    train, val, n_epochs = tuple(names[:24]), tuple(names[24:28]), 3 * repeats
    context = TrialContext("nano", None, str(store.folder), train, val, protocol, n_epochs, 0, {}, n_workers=1)
    recipe = Recipe.from_flat({"augment.kind": "all", "augment.strength": STRENGTH})
    base = load_model("nano", None).state_dict()
    fit = FineTune(context, Fold(context.train, context.val), base, recipe, torch.device("cpu"))
    alone = dataclasses.replace(context, n_workers=0)
    here = FineTune(alone, fit.fold, base, recipe, torch.device("cpu")).loader
    val_set = EvaluationSet(store, context.val, protocol, context.train)
    fit.train_epoch(0)  # so that nothing is done for the first time
    figures: dict[str, list[float]] = {}
    for epoch in range(1, repeats + 1):
        loaded: tuple[float, list[Batch]] = time_cpu(functools.partial(list, here.load(epoch, context.train)))
        start = time.perf_counter()
        bare_cpu_s, _ = time_cpu(functools.partial(train_epoch, fit.state, loaded[1]))
        bare_s = time.perf_counter() - start
        fit.loader.begin(epoch, context.train)
        fit.validate(val_set)
        start = time.perf_counter()
        report = fit.train_epoch(epoch)
        values = {
            "epoch with one loader / bare loop": (time.perf_counter() - start) / bare_s,
            "data_wait_fraction with one loader": report.data_wait_fraction,
            "loading in the same process / bare loop, CPU": loaded[0] / bare_cpu_s,
        }
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
    return figures


if __name__ == "__main__":
    sys.exit(main())
