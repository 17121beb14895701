"""What augmenting a region costs: albumentations' own transforms against ours, interleaved in one run.

python -m benchmarks.loading

The ratio of CPU times for one region of 1024 px on one core, by kind: the median over the repeats, with the least and
the greatest. Other work on the machine hardly touches it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from trainables.augmentation.augmenter import ELASTIC_SIGMA, ELASTIC_SPREAD, Augmenter, seed_steps
from trainables.demo.tissue import make_region
from trainables.recipe import AugmentRecipe

KINDS = ("stain", "elastic", "all")
STRENGTH = 0.5  # as far as lora.yaml goes
SIDE_PX, N_SEEDS = 1024, 10


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each kind (default: 5)")
    repeats: int = parser.parse_args().repeats
    cv2.setNumThreads(1)
    print(f"augmenting one region of {SIDE_PX} px on one core, strength {STRENGTH:g}: albumentations' own / ours")
    for kind in KINDS:
        pairs = compare_augmentation(kind, repeats)
        ratios, ours_ms = [theirs / ours for theirs, ours in pairs], [1e3 * ours for _, ours in pairs]
        print(f"  {kind:8} {describe(ratios)}  ({np.median(ours_ms):.0f} ms)", flush=True)


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
            theirs_s += count_cpu(lambda seed=seed: augment_stock(seed))
            ours_s += count_cpu(lambda seed=seed: ours(image, mask, seed))
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


def count_cpu(work: Callable[[], object]) -> float:
    """Returns the CPU seconds of this process that something took."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
