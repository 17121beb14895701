"""How fast a GPU trains: model size x what is trained x batch, as a Markdown table with the card's name.

python -m benchmarks.gpu

Each row trains synthetic regions at the model's size, with random weights: one batch again and again (compute), then
epochs that are loaded and augmented (loading, kind all). Its share of the limit is that of the fastest large product of
two matrices on this card, in bfloat16 where trials compute in it. The last column is what 64 trials x 20 epochs on 85
regions would take on one such card at the loaded rate, without validation and without anything that stops trials early.
Rows that do not begin within --seconds are left out and named.
"""

import argparse
import collections
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loading import make_store
from search.cluster.resources import MAX_WORKERS_PER_TRIAL
from search.command_line.exit_codes import run_command
from search.command_line.telemetry import silence_telemetry
from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.errors import InputError
from trainables.evaluation.evaluator import autocast
from trainables.model.build import MODELS, build_architecture
from trainables.model.device import find_gpu_fault
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.batches import Batch
from trainables.training.engine import EpochReport, take_step, train_epoch
from trainables.training.fine_tune import FineTune, make_loader
from trainables.training.loader import BatchLoader
from trainables.training.micro_batches import RegionTooLargeError

ADAPTERS: dict[str, dict[str, Scalar]] = {
    "decoder": {"adapter.kind": "none", "adapter.train_decoder": True},
    "LoRA 16": {"adapter.rank": 16},
    "full": {"adapter.kind": "none", "adapter.train_decoder": True, "adapter.train_encoder": True},
}
N_REGIONS, TIMED_S, MIN_STEPS = 8, 2.0, 3
N_TRIALS, N_EPOCHS, N_TRAINED = 64, 20, 85
HEADER = ("size", "trained", "batch", "compute, images/s", "with loading", "GB", "share of limit", "64 x 20 x 85", "")


@dataclass(frozen=True)
class Row:
    """The figures of one combination; ``saved`` says how memory was saved, empty where it was not needed."""

    names: tuple[str, str, int]
    compute_per_s: float
    loaded_per_s: float
    peak_gb: float
    limit_share: float
    saved: str

    def to_cells(self) -> tuple[str, ...]:
        """Returns the table's cells."""
        hours = N_TRIALS * N_EPOCHS * N_TRAINED / self.loaded_per_s / 3600
        figures = (f"{self.compute_per_s:.1f}", f"{self.loaded_per_s:.1f}", f"{self.peak_gb:.1f}")
        return (*map(str, self.names), *figures, f"{self.limit_share:.0%}", f"{hours:.1f} h", self.saved)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = make_parser(__doc__, ["tiny", "base_plus", "large"])
    parser.add_argument(
        "--adapters", nargs="+", choices=tuple(ADAPTERS), default=list(ADAPTERS), help="what is trained"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 8], help="regions a step (default: 2 8)")
    parser.add_argument("--seconds", type=float, default=200.0, help="no row begins after so many (default: 200)")
    arguments = parser.parse_args(argv)
    silence_telemetry()
    return run_command(lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> int:
    """Measures the rows and prints each as soon as it is known; returns 0; raises what :func:`open_device` raises."""
    device, started = open_device(arguments.device), time.monotonic()
    limit = measure_limit(device)
    print(
        f"{name_device(device)}, torch {torch.__version__}, {limit / 1e12:.3g} TFLOP/s in a large product of matrices\n"
    )
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            bench = _Bench(size, Path(folder), device)
            for adapter, batch in itertools.product(arguments.adapters, arguments.batches):
                if time.monotonic() - started > arguments.seconds:
                    left_out.append(f"{size} {adapter} {batch}")
                    continue
                print(f"| {' | '.join(bench.measure(adapter, batch, limit))} |", flush=True)
    if left_out:
        print(f"\nleft out after {arguments.seconds:g} s: {', '.join(left_out)}")
    return 0


def make_parser(doc: str | None, sizes: list[str]) -> argparse.ArgumentParser:
    """Returns a parser of the device and of the model sizes, which are these where none is given."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the code (default: cuda)")
    parser.add_argument("--sizes", nargs="+", choices=tuple(MODELS), default=sizes)
    return parser


def open_device(kind: str) -> torch.device:
    """Returns the device of ``--device``.

    Raises:
        InputError: If no CUDA device computes here.
    """
    if kind == "cuda" and (why := find_gpu_fault()):
        fix = "run it where a GPU is; --device cpu --sizes nano tries the code"
        raise InputError.at("--device cuda", f"no CUDA device computes here ({why})", fix)
    return torch.device(kind)


def make_context(size: str, store: RegionStore, n_workers: int) -> TrialContext:
    """Returns what trials share that train on all regions of a store."""
    protocol = PROTOCOLS["recorded"]
    return TrialContext(size, None, str(store.folder), tuple(store.names), (), protocol, 100, 0, {}, n_workers)


class _Bench:
    """What the rows of one model size share: regions of its side, first weights, and a loader for each batch size."""

    def __init__(self, size: str, folder: Path, device: torch.device) -> None:
        self._size, self._device = size, device
        store = make_store(folder / f"{MODELS[size].side_px}", MODELS[size].side_px, N_REGIONS)
        self._base = build_architecture(MODELS[size]).state_dict()
        n_workers = min(MAX_WORKERS_PER_TRIAL, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
        self._context = make_context(size, store, n_workers)
        self._loaders: dict[int, BatchLoader] = {}

    def measure(self, adapter: str, batch_size: int, limit: float) -> tuple[str, ...]:
        """Returns the cells of one combination, also where it does not fit."""
        try:
            return self._train(adapter, batch_size, limit).to_cells()
        except RegionTooLargeError:
            return (self._size, adapter, str(batch_size), *["-"] * 5, "does not fit")

    def _train(self, adapter: str, batch_size: int, limit: float) -> Row:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # else the peak would be that of the rows before
        values: dict[str, Scalar] = {
            "augment.kind": "all",
            "augment.strength": 0.5,
            "optim.batch_size": batch_size,
            "optim.lr": 1e-6,
        }
        recipe = Recipe.from_flat({**values, **ADAPTERS[adapter]})
        if batch_size not in self._loaders:
            self._loaders[batch_size] = make_loader(self._context, recipe, self._device)
        loader = self._loaders[batch_size]
        fit = FineTune(self._context, Fold(self._context.train, ()), self._base, recipe, self._device, loader)
        names = self._context.train * math.ceil(batch_size / N_REGIONS)
        batch = next(iter(loader.load(0, names)))
        n_flops = count_flops(fit, batch)
        train_epoch(fit.state, [batch])  # loads kernels
        seconds = time_call(lambda: train_epoch(fit.state, [batch]))
        n_steps = max(MIN_STEPS, int(TIMED_S / seconds))
        compute = train_epoch(fit.state, itertools.repeat(batch, n_steps))
        # Without those that the processes load before they wait: they are at work, and nothing lies ready.
        n_ahead = 2 * self._context.n_workers
        batches = loader.load(1, names * math.ceil((n_steps + n_ahead) * batch_size / len(names)))
        collections.deque(itertools.islice(batches, n_ahead), maxlen=0)
        loaded = train_epoch(fit.state, batches)
        steps_per_s = compute.images_per_s / len(batch.images)
        return Row(
            (self._size, adapter, batch_size),
            compute.images_per_s,
            loaded.images_per_s,
            max(compute.peak_memory_mb, loaded.peak_memory_mb) / 1e3,
            n_flops * steps_per_s / limit,
            describe_saving(loaded),
        )


def count_flops(fit: FineTune, batch: Batch) -> int:
    """Counts the operations of a step: products of matrices, convolutions and attention, forward and backward."""
    fit.state.adapted.train()
    with FlopCounterMode(display=False) as counter:
        take_step(fit.state, batch.to(fit.state.device), lr=1e-6)
    return int(counter.get_total_flops())


def measure_limit(device: torch.device) -> float:
    """Returns operations a second of the fastest of several large products of matrices."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if autocast(device)._enabled else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(10):
            one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()

    return 10 * 2 * side**3 / min(time_call(multiply) for _ in range(5))


def time_call(work: Callable[[], object]) -> float:
    """Returns the seconds that something took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def describe_saving(report: EpochReport) -> str:
    """Returns how a step saved memory."""
    words = ["checkpointed"] if report.is_checkpointing else []
    return ", ".join(words + ([f"parts of {report.regions_per_pass}"] if report.regions_per_pass else []))


def name_device(device: torch.device) -> str:
    """Returns the card's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (no figures of a GPU)"


if __name__ == "__main__":
    sys.exit(main())
