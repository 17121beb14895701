"""How long a trial takes to start: the second one of a process, which reuses it, against the first.

python -m benchmarks.trial_start

CPU seconds on one thread in a fresh process: from its start through imports, model and regions to a first trial that
is ready to train, and from there to a second trial. Ray's own start of the process comes on top of the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loading import describe
from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.demo.tissue import write_demo


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratio; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes (default: 3)")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)  # in the fresh process
    given = parser.parse_args(argv)
    if given.store:
        print(json.dumps(start_twice(given.store)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        write_demo(Path(name) / "demo")
        store = RegionStore.build(read_regions(Path(name) / "demo"), 256, Path(name))
        command = [sys.executable, "-m", "benchmarks.trial_start", "--store", str(store.folder)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(given.repeats)]
    pairs = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    print(f"first trial of a process     {describe([first for first, _ in pairs])} s")
    print(f"second trial                 {describe([second for _, second in pairs])} s")
    print(f"second / first               {describe([second / first for first, second in pairs])}")
    return 0


def start_twice(folder: Path) -> tuple[float, float]:
    """Returns the CPU seconds of this process until its first trial is ready, and those of the second trial's start."""
    import torch
    from ray import tune

    from search.space.config import find_space, load_config
    from trainables.context import TrialContext
    from trainables.protocol.spec import PROTOCOLS
    from trainables.sam2_trainable import SAM2Trainable

    torch.set_num_threads(1)
    names = RegionStore(folder).names
    space, protocol = load_config(find_space("lora.yaml")), PROTOCOLS["recorded"]
    context = TrialContext("nano", None, str(folder), names[:24], names[24:48], protocol, 8, 0, space.fixed, 0)
    params = dict(space.start_from[0].values)
    trial = tune.with_parameters(SAM2Trainable, context=context)(params)
    first = time.process_time()
    trial.reset_config(params)
    return first, time.process_time() - first


if __name__ == "__main__":
    sys.exit(main())
