"""Augmentation of one training region and its mask, by albumentations, repeatable from a seed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from trainables.recipe import AugmentRecipe

# albumentations asks a server for its newest version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    import albumentations as A

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]


class Augmenter:
    """What a recipe does to regions; one instance serves one process."""

    def __init__(self, recipe: AugmentRecipe) -> None:
        self.recipe = recipe
        self._transform = build_transform(recipe)

    def __call__(self, image: Image, mask: Mask, seed: int) -> tuple[Image, Mask]:
        """Returns the changed image and mask; the same seed changes them in the same way.

        Args:
            image: RGB.
            mask: Class ids; moved with the image, never blended.
            seed: Of this one draw, at least 0.
        """
        if self._transform is None:
            return image, mask
        self._transform.set_random_seed(seed)
        changed = self._transform(image=image, mask=mask)
        return changed["image"], changed["mask"]


def build_transform(recipe: AugmentRecipe) -> A.Compose | None:
    """Builds the albumentations pipeline of a recipe; None where nothing is done.

    Strength s in [0, 1] means: brightness, contrast and saturation by up to s and hue by s / 4 (the recorded runs used 0.2
    with hue 0.05); stain concentrations by up to 30 % x s and offsets by up to 20 % x s; elastic warps of up to about 2 s
    percent of the side.
    """
    if recipe.kind == "none":
        return None
    import albumentations as A

    steps: list[A.BasicTransform] = [A.D4(p=1.0)]
    strength = recipe.strength
    if recipe.kind in ("color", "all") and strength:
        steps.append(
            A.ColorJitter(
                brightness=(1 - strength, 1 + strength),
                contrast=(1 - strength, 1 + strength),
                saturation=(1 - strength, 1 + strength),
                hue=(-strength / 4, strength / 4),
                p=0.8,
            )
        )
    if recipe.kind in ("stain", "all") and strength:
        steps.append(
            A.HEStain(
                method="random_preset",
                intensity_scale_range=(1 - 0.3 * strength, 1 + 0.3 * strength),
                intensity_shift_range=(-0.2 * strength, 0.2 * strength),
                augment_background=False,
                p=0.8,
            )
        )
    if recipe.kind in ("elastic", "all") and strength:
        steps.append(A.ElasticTransform(alpha=300 * strength, sigma=12, approximate=True, p=0.5))
    return A.Compose(steps, seed=0)
