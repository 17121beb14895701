"""What choices for a GPU rest on: reading features or computing them, how many loaders, memory layout, torch.compile.

python -m benchmarks.gpu_choices

- Features: milliseconds of a picture through a frozen image encoder and of reading its features from disk; where
  reading takes less than half, trials read (``trainables.model.frozen_prefix``).
- Loaders: regions a second by the number of loading processes, with every augmentation.
- Steps: milliseconds of a LoRA step as trials take it, with channels-last weights and images, without PEFT's casts to
  float32, with flash or cuDNN's attention first, and with the image encoder compiled by torch.compile, which also
  takes the seconds of its first step in each trial.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import N_REGIONS, make_context, make_parser, name_device, open_device, time_call
from benchmarks.loading import make_store
from search.command_line.exit_codes import run_command
from search.command_line.telemetry import silence_telemetry
from trainables.adapters.adapted_model import get_base
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.evaluation.evaluator import autocast
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import encode_images
from trainables.model.frozen_prefix import FrozenPrefix
from trainables.recipe import Recipe, Scalar
from trainables.training.batches import Batch
from trainables.training.engine import take_step
from trainables.training.fine_tune import FineTune, make_loader

REPEATS = 5
PARTS = ("features", "loaders", "steps")
RECIPE: dict[str, Scalar] = {"augment.kind": "all", "augment.strength": 0.5, "optim.lr": 1e-6, "adapter.rank": 16}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures; returns the exit code."""
    parser = make_parser(__doc__, ["tiny", "base_plus"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--batch", type=int, default=8, help="regions a step (default: 8)")
    given = parser.parse_args(argv)
    silence_telemetry()
    return run_command(lambda: measure(given))


def measure(given: argparse.Namespace) -> int:
    """Measures each part for each size; returns 0; raises what :func:`benchmarks.gpu.open_device` raises."""
    device = open_device(given.device)
    print(f"{name_device(device)}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for size in given.sizes:
            store = make_store(Path(name) / f"{MODELS[size].side_px}", MODELS[size].side_px, N_REGIONS)
            if "features" in given.parts:
                compare_features(size, Path(name), device)
            if "loaders" in given.parts and size == given.sizes[0]:
                count_loaded(size, store, device)
            if "steps" in given.parts:
                compare_steps(size, store, given.batch, device)
    return 0


def compare_features(size: str, folder: Path, device: torch.device) -> None:
    """Prints what a picture takes in a frozen encoder, all of it or its first half, and what reading takes."""
    model = build_architecture(MODELS[size]).requires_grad_(False).to(device).eval()
    side, n_blocks = MODELS[size].side_px, len(model.image_encoder.trunk.blocks)
    images, names = torch.rand(N_REGIONS, 3, side, side, device=device), [str(n) for n in range(N_REGIONS)]
    for n_frozen, is_whole in ((n_blocks, True), (n_blocks // 2, False)):
        place = folder / f"{size}-{n_frozen}"
        prefix = FrozenPrefix(model, n_frozen, is_whole, place)
        with torch.no_grad(), autocast(device):
            whole_s = _time(device, functools.partial(encode_images, model, images)) / N_REGIONS
            prefix.encode(model, images, names)  # writes them
            read_s = _time(device, functools.partial(prefix.encode, model, images, names)) / N_REGIONS
        mb = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / N_REGIONS / 1e6
        what = "the whole encoder" if is_whole else f"{n_frozen} of {n_blocks} blocks, the rest computed"
        print(
            f"features {size:9} {what}: computed {1e3 * whole_s:.2f} ms, read {1e3 * read_s:.2f} ms ({mb:.1f} MB)",
            flush=True,
        )


def count_loaded(size: str, store: RegionStore, device: torch.device) -> None:
    """Prints regions a second by the number of loading processes."""
    most = (os.cpu_count() or 1) - 1
    for n_workers in sorted({0, *(n for n in (1, 2, 4, 8, 12) if n < most), most}):
        context = make_context(size, store, n_workers)
        loader = make_loader(context, Recipe.from_flat({**RECIPE, "optim.batch_size": 4}), device)
        names = context.train * max(1, n_workers)
        list(loader.load(0, names))  # starts the processes
        seconds = time_call(functools.partial(list, loader.load(1, names * 4)))
        print(f"loaders  {size:9} {n_workers:2}: {4 * len(names) / seconds:.0f} regions/s", flush=True)


def compare_steps(size: str, store: RegionStore, batch_size: int, device: torch.device) -> None:
    """Prints what a step takes as trials take it, channels last, and compiled."""
    base = build_architecture(MODELS[size]).state_dict()
    recipe = Recipe.from_flat({**RECIPE, "optim.batch_size": batch_size})
    context = make_context(size, store, 0)
    for way, change in WAYS.items():
        torch.manual_seed(0)
        fit = FineTune(context, Fold(context.train, ()), base, recipe, device)
        names = context.train * math.ceil(batch_size / N_REGIONS)
        batch = next(iter(fit.loader.load(0, names))).to(device)
        change(get_base(fit.state.adapted), batch)

        def step() -> object:
            return take_step(fit.state, batch, lr=1e-6)["total"].item()  # noqa: B023  (called within the loop)

        first_choice = ATTENTION.get(way)
        with sdpa_kernel([first_choice, *_OTHERS], set_priority=True) if first_choice else nullcontext():
            first_s = time_call(step)
            step()
            seconds = _time(device, step)
        print(
            f"steps    {size:9} {way:15}: {1e3 * seconds:.1f} ms, the first {first_s:.1f} s, loss {step():.5f}",
            flush=True,
        )


def _use_channels_last(model: SAM2Base, batch: Batch) -> None:
    model.to(memory_format=torch.channels_last)
    scaled = batch.scale_images().contiguous(memory_format=torch.channels_last)
    object.__setattr__(batch, "scale_images", lambda: scaled)


def _keep_dtype(model: SAM2Base, batch: Batch) -> None:
    for layer in model.modules():
        if hasattr(layer, "cast_input_dtype_enabled"):
            layer.cast_input_dtype_enabled = False


def _change_nothing(model: SAM2Base, batch: Batch) -> None:
    pass


def _compile_encoder(model: SAM2Base, batch: Batch) -> None:
    torch._dynamo.reset()
    model.image_encoder.forward = torch.compile(model.image_encoder.forward, dynamic=False)


WAYS: dict[str, Callable[[SAM2Base, Batch], object]] = {
    "as trials": _change_nothing,
    "channels last": _use_channels_last,
    "LoRA in bf16": _keep_dtype,
    "flash attention": _change_nothing,
    "cuDNN attention": _change_nothing,
    "compiled": _compile_encoder,
}
# The first choice of a way; trials leave it to PyTorch.
ATTENTION = {"flash attention": SDPBackend.FLASH_ATTENTION, "cuDNN attention": SDPBackend.CUDNN_ATTENTION}
_OTHERS = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def _time(device: torch.device, work: Callable[[], object]) -> float:
    """Returns the least seconds of several calls, the device's work included."""

    def finish() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    finish()
    return min(time_call(finish) for _ in range(REPEATS))


if __name__ == "__main__":
    sys.exit(main())
