"""What tiles and balanced windows gain on large regions with rare vessels, against regions shrunk whole.

python -m benchmarks.tiles_gain --seeds 5

Each seed draws its own tissue: regions of 4 x 4 patches of the demo's generator, and one patch shows a vessel. nano
learns class prompts (``classprompts.yaml``'s starting point) in three ways with the same number of training pictures
and steps: on regions shrunk whole to its square, on tiles with windows drawn anywhere, and on tiles with half of the
windows drawn around a class. Nothing is prompted, so that no way sees more of the truth than another when it is scored.
Prints the test Dice by class, and the paired differences, with 95 % intervals over seeds (Student's t).
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.stats import t as student

from search.command_line.telemetry import silence_telemetry
from search.space.config import find_space, load_config
from trainables.context import TrialContext
from trainables.data.regions import read_regions
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.demo.layout import STROMA, VESSEL
from trainables.demo.texture import draw_stain
from trainables.demo.tissue import DEMO_CLASSES, make_region, plan_classes
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.build import MODELS
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS, add_tiles
from trainables.recipe import Recipe, SamplingRecipe
from trainables.tiles.grid import Tiles
from trainables.training.fine_tune import FineTune

PATCH_PX, PATCHES_A_SIDE = 320, 4
N_TRAIN, N_TEST = 12, 8
WINDOWS_A_REGION = 4  # in an epoch; regions shrunk whole get as many times the epochs
TILES = Tiles(PATCH_PX)
SHRUNK, UNIFORM, BALANCED = "shrunk whole", "tiles, uniform", "tiles, balanced"
SAMPLING = {
    SHRUNK: SamplingRecipe(),
    UNIFORM: SamplingRecipe(windows=WINDOWS_A_REGION * N_TRAIN),
    BALANCED: SamplingRecipe(windows=WINDOWS_A_REGION * N_TRAIN, kind="balanced", strength=0.5),
}
Scored = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and prints the tables; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    parser.add_argument("--epochs", type=int, default=12, help="of the ways with tiles; default: 12")
    arguments = parser.parse_args(argv)
    silence_telemetry()
    found: dict[str, list[Scored]] = {way: [] for way in SAMPLING}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            write_large_regions(Path(folder) / "data", seed)
            store = RegionStore.build(
                read_regions(Path(folder) / "data"), MODELS["nano"].side_px, Path(folder), for_tiles=True
            )
            for way in SAMPLING:
                found[way].append(train(store, way, arguments.epochs, seed))
                print(f"seed {seed}, {way}: {found[way][-1]}", flush=True)
    print_tables(found)
    return 0


def write_large_regions(root: Path, seed: int) -> None:
    """Writes a data set of large regions, a patient each; one patch of each shows a vessel."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for index in range(N_TRAIN + N_TEST):
        rng = np.random.default_rng((seed, index))
        stain, n_patches = draw_stain(rng), PATCHES_A_SIDE**2
        plan = [(shown - {VESSEL}) | {STROMA} for shown in plan_classes(rng, n_patches)]
        plan[int(rng.integers(n_patches))] = frozenset({STROMA, VESSEL})
        patches = [make_region(rng, PATCH_PX, shown, stain) for shown in plan]
        name = f"region-{index:02d}.png"
        for folder, part in (("images", 0), ("masks", 1)):
            rows = [
                np.concatenate([patch[part] for patch in patches[start : start + PATCHES_A_SIDE]], axis=1)
                for start in range(0, n_patches, PATCHES_A_SIDE)
            ]
            Image.fromarray(np.concatenate(rows)).save(root / folder / name, compress_level=1)
        split["train" if index < N_TRAIN else "test"].append(name)
    split["val"] = split["test"][:1]  # a split needs one; nothing is chosen by it
    split["test"] = split["test"][1:]
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": DEMO_CLASSES, "split": split}))


def train(store: RegionStore, way: str, n_epochs: int, seed: int) -> Scored:
    """Returns the test Dice after the last epoch: the mean over pairs, and by class."""
    torch.set_num_threads(1)
    config, protocol = load_config(find_space("classprompts.yaml")), PROTOCOLS["auto"]
    protocol = protocol if way == SHRUNK else add_tiles(protocol, TILES)
    plain = Recipe.from_flat({**config.fixed, **config.start_from[0].values})
    recipe = dataclasses.replace(plain, sampling=SAMPLING[way])
    n_epochs *= WINDOWS_A_REGION if way == SHRUNK else 1
    train, test = tuple(store.names[:N_TRAIN]), tuple(store.names[N_TRAIN + 1 :])
    context = TrialContext("nano", None, str(store.folder), train, (), protocol, n_epochs, seed, {}, n_workers=0)
    fit = FineTune(context, Fold(train, ()), load_model("nano", None).state_dict(), recipe, torch.device("cpu"))
    for epoch in range(n_epochs):
        fit.train_epoch(epoch)
    scores = fit.evaluate(EvaluationSet(store, test, protocol, train))
    return {"all pairs": scores.dice, **scores.per_class()}


def print_tables(found: Mapping[str, Sequence[Scored]]) -> None:
    """Prints Markdown: Dice by class and way, then what each way gains on the one before it."""
    rows = list(next(iter(found.values()))[0])
    print("| Dice on test | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for row in rows:
        print(f"| {row} | " + " | ".join(_describe([one[row] for one in each]) for each in found.values()) + " |")
    pairs = [(UNIFORM, SHRUNK), (BALANCED, UNIFORM), (BALANCED, SHRUNK)]
    print("\n| difference | " + " | ".join(f"{one} - {other}" for one, other in pairs) + " |\n|---|" + "---|" * 3)
    for row in rows:
        gains = [[a[row] - b[row] for a, b in zip(found[one], found[other], strict=True)] for one, other in pairs]
        print(f"| {row} | " + " | ".join(map(_describe, gains)) + " |")


def _describe(values: Sequence[float]) -> str:
    """Returns a mean with its 95 % interval."""
    reach = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)) if values[1:] else 0
    return f"{np.mean(values):.3f} +/- {reach:.3f}"


if __name__ == "__main__":
    sys.exit(main())
