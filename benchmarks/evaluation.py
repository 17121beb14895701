"""How fast a model is scored: this project's evaluation against a loop over the stock predictor, in one run.

python -m benchmarks.evaluation

The loop encodes a region for each class, and under each view, as the scripts of the recorded experiments did. Both
score zero-shot nano on the demo's validation regions; the masks are compared. Prints the ratio of CPU times on one
thread, the loop's over ours: the median over the repeats, with the least and the greatest. The first evaluation
computes the features of the image encoder; later ones of the same weights read them, as those of trials do whose
encoder is frozen.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from benchmarks.loading import describe, time_cpu
from search.command_line.telemetry import silence_telemetry
from trainables.data.images import read_image
from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.demo.tissue import write_demo
from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan
from trainables.evaluation.evaluator import predict_masks
from trainables.evaluation.stock_predictor import PromptedModel, build_predictor, predict_one, predict_prompt_by_prompt
from trainables.model.frozen_prefix import FrozenPrefix
from trainables.model.weights import load_model
from trainables.protocol.components import BoolMask
from trainables.protocol.prompts import Prompt
from trainables.protocol.spec import PROTOCOLS

Answers = list[tuple[RegionPlan, list[BoolMask]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratios; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--regions", type=int, default=24, help="of the demo's validation; default: all 24")
    given = parser.parse_args(argv)
    silence_telemetry()
    torch.set_num_threads(1)
    model = load_model("nano", None).eval()
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        root = Path(name) / "demo"
        write_demo(root)
        listed = read_regions(root)
        store = RegionStore.build(listed, model.image_size, Path(name))
        images = {region.name: read_image(region.image) for region in listed.regions}
        assert listed.declared_split is not None
        for protocol in (PROTOCOLS["recorded"], PROTOCOLS["recorded-tta"]):
            regions = EvaluationSet(store, listed.declared_split["val"][: given.regions], protocol)
            prefix = FrozenPrefix(model, len(model.image_encoder.trunk.blocks), True, Path(name) / protocol.name)
            _predict(model, regions, prefix)
            ratios: dict[str, list[float]] = {"first": [], "later": []}
            same: list[bool] = []
            for _ in range(given.repeats):
                loop: tuple[float, Answers] = time_cpu(functools.partial(list, _loop(model, regions, images)))
                for when, features in (("first", None), ("later", prefix)):
                    own = time_cpu(functools.partial(_predict, model, regions, features))
                    ratios[when].append(loop[0] / own[0])
                    same += _compare(loop[1], own[1])
            for when, found in ratios.items():
                print(f"{protocol.name:14} {when} {describe(found)}", flush=True)
            print(f"{protocol.name:14} {sum(same)} of {len(same)} masks equal to 0.1 % of their pixels", flush=True)
    return 0


def _predict(model: SAM2Base, regions: EvaluationSet, prefix: FrozenPrefix | None) -> Answers:
    return list(predict_masks(model, regions, torch.device("cpu"), prefix=prefix))


def _compare(one: Answers, other: Answers) -> list[bool]:
    """Returns for every mask whether both are equal to 0.1 % of their pixels."""
    pairs = [pair for (_, mine), (_, yours) in zip(one, other, strict=True) for pair in zip(mine, yours, strict=True)]
    return [bool((mine != yours).mean() < 1e-3) for mine, yours in pairs]


def _loop(
    model: SAM2Base, regions: EvaluationSet, images: dict[str, UInt8[np.ndarray, "h w 3"]]
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields the masks of the stock predictor, which encodes anew for every prompt and view."""
    predictor = build_predictor(model)

    def encode_and_predict(
        image: UInt8[np.ndarray, "h w 3"], prompt: Prompt, _: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        predictor.set_image(image)
        return predict_one(predictor, prompt)

    prompted = PromptedModel(lambda image: image, encode_and_predict)
    return predict_prompt_by_prompt(prompted, regions, images.__getitem__)


if __name__ == "__main__":
    sys.exit(main())
