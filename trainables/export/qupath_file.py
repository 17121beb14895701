"""Exports a merged model as a checkpoint for samapi, the server behind QuPath's extension for SAM.

samapi 0.7 builds configs of SAM 2.0 by ``build_sam2`` and loads the weights under the key ``model`` strictly. SAM 2.1
has a few weights more, of the memory that only video needs. Without them a file of SAM 2.1 is one of SAM 2.0, and the
model segments images alike.
"""

from pathlib import Path

import torch
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.model.device import pick_device

# Model -> the name of its type in samapi, and the config that samapi builds for it.
SAMAPI_TYPES = {
    "tiny": ("sam2_t", "sam2_hiera_t.yaml"),
    "small": ("sam2_s", "sam2_hiera_s.yaml"),
    "base_plus": ("sam2_bp", "sam2_hiera_b+.yaml"),
    "large": ("sam2_l", "sam2_hiera_l.yaml"),
}
_NEW_IN_21 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.")


def keep_old_weights(model: SAM2Base) -> dict[str, Tensor]:
    """Returns the weights of a SAM 2.1 that SAM 2.0 has too."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(_NEW_IN_21)}


def write_qupath(model: SAM2Base, path: Path) -> None:
    """Writes the weights that SAM 2.0 has, under the key ``model``."""
    torch.save({"model": keep_old_weights(model)}, path)


def load_qupath(path: Path, model_name: str) -> SAM2Base:
    """Returns the model as samapi makes it of the file: SAM 2.0's config, loaded strictly; on this process's device."""
    model: SAM2Base = build_sam2(config_file=SAMAPI_TYPES[model_name][1], device="cpu")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.to(pick_device()).eval()
