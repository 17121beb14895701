"""A data set of synthetic tissue, as a search reads it."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from trainables.demo.tissue import DEMO_CLASSES, make_region


def write_tissue(root: Path, side_px: int, n_train: int, n_val: int, n_test: int) -> None:
    """Writes regions, one a patient, with their split."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    names = [f"region-{number:02d}.png" for number in range(n_train + n_val + n_test)]
    for seed, name in enumerate(names):
        image, mask = make_region(np.random.default_rng(seed), side_px)
        Image.fromarray(image).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    n_seen = n_train + n_val
    settings = {
        "name": "small",
        "classes": DEMO_CLASSES,
        "split": {"train": names[:n_train], "val": names[n_train:n_seen], "test": names[n_seen:]},
        "patients": {name: f"P-{number}" for number, name in enumerate(names)},
    }
    (root / "dataset.yaml").write_text(yaml.safe_dump(settings))
