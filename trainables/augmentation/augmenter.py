"""The augmentation of one training region and its mask, a pipeline of albumentations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from trainables.recipe import AugmentRecipe

if TYPE_CHECKING:
    import albumentations as A


# Otherwise albumentations asks a server for its newest version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]

# Smoothing of an elastic warp, and the spread of its displacements at strength 1, as fractions of the side.
ELASTIC_SIGMA = 1 / 16
ELASTIC_SPREAD = 0.02


class Augmenter:
    """Augments regions by a recipe; one instance serves one process."""

    def __init__(self, recipe: AugmentRecipe) -> None:
        self._transform = build_transform(recipe)

    def __call__(self, image: Image, mask: Mask, seed: int) -> tuple[Image, Mask]:
        """Returns the changed image (RGB) and mask, whose class ids are moved and never blended.

        The same seed, at least 0, gives the same change.
        """
        if self._transform is None:
            return image, mask
        seed_steps(self._transform, seed)
        changed = self._transform(image=image, mask=mask)
        return changed["image"], changed["mask"]


def build_transform(recipe: AugmentRecipe) -> A.Compose | None:
    """Builds the albumentations pipeline of a recipe; None where nothing is done.

    All kinds but ``none`` begin with one of the 8 flips and quarter turns (of the 4 flips alone without
    ``quarter_turns``), followed by a rotation by any angle up to ``rotation_degrees``. The corners of a rotated
    region are filled with the mirrored region, image and mask alike: every pixel's label stays true, and no black
    wedge gives away that this is training. Flips with rotations of up to 90 degrees give every orientation alike,
    with quarter turns or without.

    A strength s in [0, 1] adds:

    - color (in 4 of 5 draws): factors of brightness, contrast and saturation from 1 - s to 1 + s, hue turned
      by up to ``hue`` of the circle, or s / 4 (the recorded runs used s = 0.2 with hue 0.05).
    - stain (in 4 of 5 draws): the region is separated into hematoxylin and eosin by one of eight published
      stain matrices; both concentrations are multiplied by 1 - 0.3 s to 1 + 0.3 s and shifted by up to 0.2 s.
      Colors that two stains cannot express are lost: a change is visible at the least strength too.
    - elastic (in 1 of 2 draws): smooth displacements of each pixel with a standard deviation of 2 s percent
      of the side, normally distributed; beyond the border lies the mirrored region.
    """
    if recipe.kind == "none":
        return None
    # Late: albumentations takes 3 s to import.
    import albumentations as A

    from trainables.augmentation.stain import StainJitter
    from trainables.augmentation.warp import ElasticWarp

    steps: list[A.BasicTransform] = (
        [A.D4(p=1.0)] if recipe.quarter_turns else [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    )
    border = cv2.BORDER_REFLECT_101  # the default is black, with the class id 0
    if recipe.rotation_degrees:
        steps.append(A.Rotate(limit=recipe.rotation_degrees, border_mode=border, p=1.0))
    strength = recipe.strength
    hue = strength / 4 if recipe.hue < 0 else recipe.hue
    if recipe.kind in ("color", "all") and (strength or hue):
        factor = (1 - strength, 1 + strength)
        steps.append(A.ColorJitter(brightness=factor, contrast=factor, saturation=factor, hue=(-hue, hue), p=0.8))
    if recipe.kind in ("stain", "all") and strength:
        steps.append(
            StainJitter(
                method="random_preset",
                intensity_scale_range=(1 - 0.3 * strength, 1 + 0.3 * strength),
                intensity_shift_range=(-0.2 * strength, 0.2 * strength),
                augment_background=False,
                p=0.8,
            )
        )
    if recipe.kind in ("elastic", "all") and strength:
        steps.append(ElasticWarp(ELASTIC_SIGMA, ELASTIC_SPREAD * strength, p=0.5))
    return A.Compose(steps, seed=0)


def has_few_views(recipe: AugmentRecipe) -> bool:
    """Returns whether a region is always one of at most eight pictures: itself, mirrored or turned by quarters."""
    return recipe.kind == "none" or (recipe.kind == "flips" and not recipe.rotation_degrees)


def seed_steps(transform: A.Compose, seed: int) -> None:
    """Seeds each step of a pipeline on its own: albumentations gives all of them the same seed."""
    transform.set_random_seed(seed)
    states = np.random.SeedSequence(seed).generate_state(len(transform.transforms))
    for step, state in zip(transform.transforms, states, strict=True):
        step.set_random_seed(int(state))
