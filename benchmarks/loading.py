"""What loading costs: augmentation against albumentations' own, and an epoch against the bare loop in memory.

python -m benchmarks.loading

- CPU time of augmenting one region of 1024 px on one core, by kind: albumentations' own transforms over ours.
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

from trainables.augmentation.augmenter import ELASTIC_SIGMA, ELASTIC_SPREAD, Augmenter, seed_steps
from trainables.context import TrialContext
from trainables.data.regions import read_regions
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.demo.tissue import make_region, write_demo
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import AugmentRecipe, Recipe
from trainables.training.batches import Batch
from trainables.training.engine import train_epoch
from trainables.training.fine_tune import FineTune

T = TypeVar("T")

KINDS = ("stain", "elastic", "all")
STRENGTH = 0.5  # as far as lora.yaml goes
SIDE_PX, N_SEEDS = 1024, 10


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each kind (default: 5)")
    repeats: int = parser.parse_args(argv).repeats
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"augmenting one region of {SIDE_PX} px on one core, strength {STRENGTH:g}: albumentations' own / ours")
    for kind in KINDS:
        pairs = compare_augmentation(kind, repeats)
        ratios, ours_ms = [theirs / ours for theirs, ours in pairs], [1e3 * ours for _, ours in pairs]
        print(f"  {kind:8} {describe(ratios)}  ({np.median(ours_ms):.0f} ms)", flush=True)
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
