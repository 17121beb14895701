"""What a frozen encoder costs where its features are read: epochs of `tiny` at 1024 px with the cache and without it.

python -m benchmarks.prefix

Two fine-tunes of the same recipe take the same steps in turns, one of them without the cache. Printed are CPU seconds
of an epoch from the second on, when every picture has been seen (`augment.kind: none`; with flips a picture comes again
once its view has been drawn, by this trial or another), their ratio, and the greatest relative difference of the
losses.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.loading import make_store, time_cpu
from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.build import MODELS, build_architecture
from trainables.model.device import keep_freed_memory
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.fine_tune import FineTune

RECIPES: dict[str, dict[str, Scalar]] = {
    "the decoder's output heads": {"adapter.kind": "none", "adapter.train_heads": True},
    "LoRA in the mask decoder": {"adapter.targets": "mask_decoder"},
    "LoRA in the last stage": {"adapter.targets": "image_encoder", "adapter.stages": "late", "adapter.last_blocks": 2},
    "LoRA in the last stage and the decoder": {
        "adapter.targets": "both",
        "adapter.stages": "late",
        "adapter.last_blocks": 2,
    },
}
N_VAL = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", choices=list(MODELS), help="its weights are random (default: tiny)")
    parser.add_argument("--regions", type=int, default=2, help="training regions (default: 2)")
    parser.add_argument("--objects", type=int, default=5, help="objects a region at most (default: 5)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs; the first is not measured (default: 3)")
    use = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), MODELS[use.model].side_px, use.regions + N_VAL)
        print(f"{use.model}, {use.regions} training regions of {store.image_size} px, {use.objects} objects at most")
        for name, values in RECIPES.items():
            compare(store, use.model, name, {**values, "prompts.max_objects": use.objects}, use.epochs)
    return 0


def compare(store: RegionStore, model: str, name: str, values: dict[str, Scalar], n_epochs: int) -> None:
    """Prints the figures of one recipe."""
    recipe = Recipe.from_flat({**values, "augment.kind": "none", "optim.batch_size": 2})
    context = TrialContext(
        model,
        None,
        str(store.folder),
        store.names[N_VAL:],
        store.names[:N_VAL],
        PROTOCOLS["recorded"],
        n_epochs,
        0,
        {},
        0,
    )
    torch.manual_seed(0)
    weights = build_architecture(MODELS[model]).state_dict()
    fold = Fold(context.train, context.val)
    reading, plain = (FineTune(context, fold, weights, recipe, torch.device("cpu")) for _ in range(2))
    plain.state.prefix = None
    regions = EvaluationSet(store, context.val, context.protocol)
    for part, work in (
        ("training", lambda fit, epoch: fit.train_epoch(epoch).losses["total"]),
        ("validation", lambda fit, epoch: fit.validate(regions)[1]),
    ):
        epochs = [
            [time_cpu(functools.partial(work, fit, epoch)) for fit in (plain, reading)] for epoch in range(n_epochs)
        ]
        report(f"{name}: {part}", epochs)
    print(f"  {reading.take_reused():.0%} of the encoder's blocks were read, first epochs included", flush=True)


def report(what: str, epochs: list[list[tuple[float, float]]]) -> None:
    """Prints seconds and ratios of the epochs after the first, and how far all losses lie apart."""
    ratios = [plain[0] / reading[0] for plain, reading in epochs[1:]]
    apart = max(abs(plain[1] - reading[1]) / abs(plain[1]) for plain, reading in epochs)
    seconds = [np.median([one[side][0] for one in epochs[1:]]) for side in (0, 1)]
    print(
        f"{what}: {np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) times as fast, "
        f"{seconds[0]:.1f} s / {seconds[1]:.2f} s; losses differ by {apart:.0e} at most",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
