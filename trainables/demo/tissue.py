"""The built-in demo: synthetic H&E-like regions with BCSS's class ids, in the layout of BCSS.

It lets the whole search run without data. Its scores say nothing about SAM2 on tissue, and everything that shows them
says ``demo``.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import UInt8
from PIL import Image

from trainables.demo.layout import LYMPHOCYTE, NECROSIS, STROMA, TUMOR, VESSEL, make_mask
from trainables.demo.texture import Stain, draw_stain, paint
from trainables.errors import DataError
from trainables.files.processes import map_in_processes
from trainables.files.progress import follow

DEMO_CLASSES: dict[int, str] = {1: "tumor", 2: "stroma", 3: "lymphocyte", 4: "necrosis", 18: "blood_vessel"}
DEMO_COUNTS = {"train": 24, "val": 24, "test": 60}
# Share of the regions that show a class. Stroma is in all of them: it is the matrix of the others.
PRESENCE = {TUMOR: 0.97, NECROSIS: 0.55, LYMPHOCYTE: 0.58, VESSEL: 0.2}


def make_region(
    rng: np.random.Generator, side_px: int = 320, classes: frozenset[int] | None = None, stain: Stain | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Makes one square region: the RGB image, and the mask of BCSS class ids with 21 ("other") for fat and gaps.

    The same state of ``rng`` gives the same pixels on the same kind of processor (docs/demo.md). Classes, stroma among
    them, are drawn by their frequency if None, and so is a stain. The side is at least 128: a smaller region has no
    room for its structures.
    """
    chosen = plan_classes(rng, 1)[0] if classes is None else classes
    mask = make_mask(rng, side_px, chosen)
    return paint(rng, mask, stain if stain is not None else draw_stain(rng)), mask


def plan_classes(rng: np.random.Generator, n_regions: int) -> list[frozenset[int]]:
    """Assigns 2 to 4 classes to each region, each class about as often as ``PRESENCE`` says."""
    plan: list[set[int]] = [{STROMA} for _ in range(n_regions)]
    for class_id, share in PRESENCE.items():
        count = int(share * n_regions + rng.uniform())  # never 0 where a region or more is due
        for i in rng.permutation(n_regions)[:count]:
            plan[i].add(class_id)
    for present in plan:
        if present >= set(DEMO_CLASSES):
            present.remove(LYMPHOCYTE)
        if len(present) == 1:
            present.add(TUMOR)
    return [frozenset(present) for present in plan]


def draw_patient_sizes(rng: np.random.Generator, n_regions: int) -> list[int]:
    """Returns how many regions each patient has: 2 or 3, together ``n_regions`` (at least 2)."""
    counts: list[int] = []
    while (left := n_regions - sum(counts)) > 0:
        counts.append(left if left < 4 else 2 if left == 4 else int(rng.integers(2, 4)))
    return counts


def write_demo(root: Path, seed: int = 0, side_px: int = 320, cores: int = 1) -> None:
    """Writes the demo's 108 regions in the layout of BCSS: images/, masks/ and dataset.yaml.

    The same seed gives the same pixels on the same kind of processor, on any number of cores. The folder appears whole
    or not at all. A folder that has a dataset.yaml already is left as it is.

    Raises:
        DataError: If the path is a file, or a folder of something else.
        TrainablesError: If a process that draws was killed.
    """
    if (root / "dataset.yaml").exists():
        return
    root = root.absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as holder:
        folder = Path(holder) / root.name
        folder.mkdir()
        _write_regions(folder, seed, side_px, cores)
        try:
            os.rename(folder, root)
        except OSError as error:  # a file or a full folder is there
            if not (root / "dataset.yaml").exists():  # else another process has written the same pixels
                what = "something other than the demo is here"
                raise DataError.at(root, what, "remove it, or name another folder") from error


def _write_regions(folder: Path, seed: int, side_px: int, cores: int) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir()
    seeds = np.random.SeedSequence(seed)
    split: dict[str, Sequence[str]] = {}
    calls: list[tuple[Any, ...]] = []
    patient = 0
    for part, n_regions in DEMO_COUNTS.items():
        rng = np.random.default_rng(seeds.spawn(1)[0])
        plan = iter(plan_classes(rng, n_regions))
        names = []
        for count in draw_patient_sizes(rng, n_regions):
            patient += 1
            stain = draw_stain(rng)
            for region, region_seed in enumerate(seeds.spawn(count), start=1):
                name = f"demo-P{patient:02d}-R{region}.png"
                calls.append((folder, name, region_seed, side_px, next(plan), stain))
                names.append(name)
        split[part] = names
    for _ in follow(map_in_processes(_write_region, calls, cores), len(calls), "regions of the demo drawn"):
        pass
    text = yaml.safe_dump({"name": "demo", "classes": DEMO_CLASSES, "split": split}, sort_keys=False)
    (folder / "dataset.yaml").write_text("# Synthetic tissue, made by trainables/demo/tissue.py\n" + text)


def _write_region(
    folder: Path, name: str, seed: np.random.SeedSequence, side_px: int, classes: frozenset[int], stain: Stain
) -> None:
    image, mask = make_region(np.random.default_rng(seed), side_px, classes, stain)
    Image.fromarray(image).save(folder / "images" / name, compress_level=1)
    Image.fromarray(mask).save(folder / "masks" / name)
