"""Builds a SAM2 model by name, with random weights: the project's nano, or one of the stock sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sam2  # noqa: F401  (lets Hydra find the stock configs)
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from sam2.modeling.sam2_base import SAM2Base

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class ModelSpec:
    """A model that ``--model`` can name.

    Attributes:
        name: What a user types after ``--model``.
        config: The Hydra config: a path inside the sam2 package, or a file in ``assets/``.
        hub_id: Of its published weights on the Hugging Face hub; None for nano, which ships with its weights.
    """

    name: str
    config: str
    hub_id: str | None

    @property
    def is_demo(self) -> bool:
        """True for the shipped model, whose numbers say nothing about SAM2 as published."""
        return self.hub_id is None

    @property
    def side_px(self) -> int:
        """Side of the squares that the model takes."""
        return 256 if self.is_demo else 1024


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("nano", "sam2_nano.yaml", None),
        ModelSpec("tiny", "configs/sam2.1/sam2.1_hiera_t.yaml", "facebook/sam2.1-hiera-tiny"),
        ModelSpec("small", "configs/sam2.1/sam2.1_hiera_s.yaml", "facebook/sam2.1-hiera-small"),
        ModelSpec("base_plus", "configs/sam2.1/sam2.1_hiera_b+.yaml", "facebook/sam2.1-hiera-base-plus"),
        ModelSpec("large", "configs/sam2.1/sam2.1_hiera_l.yaml", "facebook/sam2.1-hiera-large"),
    )
}


@contextmanager
def config_path(spec: ModelSpec) -> Iterator[None]:
    """Lets Hydra find a model's config by name inside the block: sam2's own search path lacks nano's."""
    if not spec.is_demo:
        yield
        return
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(ASSETS), version_base="1.2"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


@contextmanager
def _gpu_unseen() -> Iterator[None]:
    """Hides the GPUs from SAM2's layers, which fill their caches on the first one, whatever device they are built for.

    The process that plans a search would hold GPU memory until it ends, or fail where the GPU is another's.
    """
    before = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = before


def build_architecture(spec: ModelSpec, image_size: int | None = None) -> SAM2Base:
    """Builds the model on the CPU, in evaluation mode, with random weights.

    ``image_size`` is the side of the square that regions are resized to, in pixels; None for the config's own.
    """
    with _gpu_unseen():
        model: SAM2Base = instantiate(_compose_config(spec, image_size), _recursive_=True)
    return model.eval()


@cache
def _compose_config(spec: ModelSpec, image_size: int | None) -> DictConfig:
    """Composes a config with the overrides of ``sam2.build_sam.build_sam2``, which takes longer than building."""
    overrides = [
        "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
        "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
        "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    ]
    if image_size is not None:
        overrides.append(f"model.image_size={image_size}")
    with config_path(spec):
        config = compose(spec.config, overrides)
    OmegaConf.resolve(config)
    model: DictConfig = config.model
    return model
