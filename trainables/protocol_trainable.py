"""Zero-shot SAM2 as a Ray Tune trainable: a trial is a protocol, scored in a single step without training."""

import time
from typing import Any

import torch
from ray import tune

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.model.device import pick_device, use_ray_share
from trainables.model.frozen_prefix import find_prefix
from trainables.model.weights import load_model
from trainables.protocol.fields import change_protocol


class ProtocolTrainable(tune.Trainable):
    """Scores zero-shot on validation; the config holds parts of the protocol by their flat names."""

    def setup(  # type: ignore[override]  # Ray passes the context by name
        self, config: dict[str, Any], context: TrialContext
    ) -> None:
        """Loads the model and the regions once; they serve every trial that this actor runs."""
        use_ray_share()
        self.context = context
        self.device = pick_device()
        self.store = RegionStore(context.store_folder)
        self.model = load_model(context.model, context.checkpoint).requires_grad_(False).to(self.device)
        self.prefix = find_prefix(self.model, self.store.folder, self.device)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Changes to another trial's protocol."""
        parts = {name: value for name, value in new_config.items() if "." in name}
        self.protocol = change_protocol(self.context.protocol, {**self.context.fixed, **parts})
        return True

    def step(self) -> dict[str, Any]:
        """Scores zero-shot under the trial's protocol; no other protocol's figures compare with these."""
        start = time.perf_counter()
        regions = EvaluationSet(self.store, self.context.scored, self.protocol)
        with torch.inference_mode():
            scores = evaluate(self.model, regions, self.device, prefix=self.prefix)
        return {
            **{f"val_{name}": value for name, value in scores.to_flat().items()},
            "val_floor": scores.floor,
            "val_ceiling": scores.ceiling,
            "protocol": self.protocol.name,
            "protocol_id": self.protocol.id,
            "prefix_reused": self.prefix.take_share() if self.prefix else 0.0,
            "seconds/validate": time.perf_counter() - start,
        }
