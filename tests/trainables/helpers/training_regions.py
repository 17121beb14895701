"""Regions as a trial trains on them, from a few recipe values."""

from trainables.data.store import RegionStore
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.batches import TrainingRegions


def make_regions(store: RegionStore, protocol: str = "recorded", seed: int = 3, **values: Scalar) -> TrainingRegions:
    """Returns the regions; recipe values by their names, with two underscores for the dot."""
    flat: dict[str, Scalar] = {"augment.kind": "all", "prompts.mix": "mixed", "optim.batch_size": 2}
    flat |= {name.replace("__", "."): value for name, value in values.items()}
    return TrainingRegions(store, PROTOCOLS[protocol], Recipe.from_flat(flat), seed)
