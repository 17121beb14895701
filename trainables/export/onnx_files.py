"""Exports a merged model as two ONNX files, an image encoder and a prompt decoder, which onnxruntime runs.

Names and shapes of inputs and outputs are those of samexporter's files for SAM2, which labelling tools load.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from sam2.utils.transforms import SAM2Transforms
from torch import Tensor, nn

from trainables.evaluation.stock_predictor import PromptedModel
from trainables.model.forward import IMAGENET_MEAN, IMAGENET_STD, encode_images
from trainables.protocol.prompts import Prompt

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
_FEATURES = ("high_res_feats_0", "high_res_feats_1", "image_embed")
_OPSET = 18


class _Encoder(nn.Module):
    """The image encoder; its images are normalized already, as labelling tools do it."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, image: Float[Tensor, "1 3 s s"]) -> tuple[Tensor, Tensor, Tensor]:
        features = encode_images(self.model, image * self.std + self.mean)
        return *features.high_res, features.embedding


class _Decoder(nn.Module):
    """Prompt encoder and mask decoder, of several prompts in one image."""

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        self.prompts, self.masks = model.sam_prompt_encoder, model.sam_mask_decoder

    def forward(
        self,
        image_embed: Float[Tensor, "1 c h w"],
        high_res_feats_0: Float[Tensor, "1 c0 h0 w0"],
        high_res_feats_1: Float[Tensor, "1 c1 h1 w1"],
        point_coords: Float[Tensor, "objects points 2"],
        point_labels: Float[Tensor, "objects points"],
        mask_input: Float[Tensor, "objects 1 h0 w0"],
        has_mask_input: Float[Tensor, " 1"],
    ) -> tuple[Tensor, Tensor]:
        sparse, no_mask = self.prompts(points=(point_coords, point_labels), boxes=None, masks=None)
        given = has_mask_input.view(1, 1, 1, 1)
        dense = given * self.prompts.mask_downscaling(mask_input) + (1 - given) * no_mask
        n_objects = point_coords.shape[0]
        logits, iou, _, _ = self.masks(
            image_embeddings=image_embed.expand(n_objects, -1, -1, -1),
            image_pe=self.prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=False,
            high_res_features=[each.expand(n_objects, -1, -1, -1) for each in (high_res_feats_0, high_res_feats_1)],
        )
        return logits, iou


def write_onnx(model: SAM2Base, folder: Path) -> None:
    """Writes the two files into a new folder; the decoder answers with three candidate masks."""
    folder.mkdir()
    width, side = model.sam_prompt_encoder.embed_dim, model.image_size
    _write_graph(_Encoder(model), {"image": torch.zeros(1, 3, side, side)}, {}, _FEATURES, folder / ENCODER_FILE)
    levels = {"image_embed": (width, 16), "high_res_feats_0": (width // 8, 4), "high_res_feats_1": (width // 4, 8)}
    inputs = {
        **{name: torch.zeros(1, channels, side // step, side // step) for name, (channels, step) in levels.items()},
        **{"point_coords": torch.zeros(3, 4, 2), "point_labels": torch.ones(3, 4)},
        **{"mask_input": torch.zeros(3, 1, side // 4, side // 4), "has_mask_input": torch.zeros(1)},
    }
    objects, points = torch.export.Dim("objects", min=1), torch.export.Dim("points", min=1)
    free = {
        "point_coords": {0: objects, 1: points},
        "point_labels": {0: objects, 1: points},
        "mask_input": {0: objects},
    }
    _write_graph(_Decoder(model), inputs, free, ("masks", "iou_predictions"), folder / DECODER_FILE)


@torch.no_grad()
def _write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    free: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
    path: Path,
) -> None:
    """Writes one file; ``free`` names the dimensions of inputs that may differ from the example's."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass  # of the extra onnx

    with warnings.catch_warnings():  # of names and caches inside PyTorch's exporter
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(free.get(name, {}) for name in inputs),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    # The exporter notes where every step was written: folders of this machine, which are nobody else's business.
    ClearMetadataAndDocStringPass()(program.model)
    program.save(path, external_data=False)


class _Features(NamedTuple):
    high_res_feats_0: Float[np.ndarray, "1 c0 h0 w0"]
    high_res_feats_1: Float[np.ndarray, "1 c1 h1 w1"]
    image_embed: Float[np.ndarray, "1 c h w"]


def load_onnx(folder: Path) -> PromptedModel[_Features]:
    """Returns the model of a folder as its users load it: by onnxruntime, on the CPU."""
    import onnxruntime  # of the extra onnx

    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in (ENCODER_FILE, DECODER_FILE)
    )
    side = encoder.get_inputs()[0].shape[-1]
    resize = SAM2Transforms(side, mask_threshold=0.0)

    def encode(image: UInt8[np.ndarray, "h w 3"]) -> _Features:
        return _Features(*encoder.run(list(_FEATURES), {"image": resize(image)[None].numpy()}))

    def decode(features: _Features, prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        scale = np.array([side / size[1], side / size[0]], np.float32)
        inputs = {
            **features._asdict(),
            "point_coords": prompt.points[None].astype(np.float32) * scale,
            "point_labels": prompt.labels[None].astype(np.float32),
            "mask_input": np.zeros((1, 1, side // 4, side // 4), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
        }
        masks, iou = decoder.run(["masks", "iou_predictions"], inputs)
        return resize.postprocess_masks(torch.from_numpy(masks), size)[0], torch.from_numpy(iou)[0]

    return PromptedModel(encode, decode)
