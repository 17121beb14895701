"""The code of the registered model: MLflow stores this file beside the weights and runs it ("models from code").

With ``sam2.pt`` alone it needs the packages sam2 and torch; with class prompts also this project.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Segmenter(PythonModel):
    """Masks of an image: one for each box, or the class of each pixel where the export holds class prompts."""

    def load_context(self, context: Any) -> None:
        """Loads the weights, onto the GPU where there is one."""
        folder = Path(context.artifacts["export"])
        if (folder / "class_prompts.json").is_file():
            from trainables.export.class_export import load_class_export

            self.classes: Any
            self.classes, self.model = load_class_export(folder)
        else:
            self.classes, self.model = None, _load_predictor(folder)

    # MLflow would take a type of the input for its signature.
    def predict(self, context: Any, model_input, params: Any = None) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Segments one image.

        Args:
            context: Not used; MLflow's.
            model_input: ``image``, RGB, uint8 [height, width, 3]; and without class prompts ``boxes``, pixels
                [boxes, 4] as left, top, right, bottom.
            params: With class prompts ``um_per_px``, micrometres a pixel of the image; 0 for those of training.

        Returns:
            uint8 [boxes, height, width], 1 inside a box's mask: of the model's three candidates the one that it thinks
            best, which is what a search trains and scores. With class prompts [height, width] of class ids.

        Raises:
            ValueError: If the image's scale is far from training's.
        """
        image = np.ascontiguousarray(np.asarray(model_input["image"], np.uint8))
        if self.classes is not None:
            return self._name_pixels(image, float((params or {}).get("um_per_px", 0.0)))
        import torch

        with torch.inference_mode():
            self.model.set_image(image)
            masks = [self._segment_box(box) for box in np.asarray(model_input["boxes"], np.float32).reshape(-1, 4)]
        return np.stack(masks).astype(np.uint8) if masks else np.zeros((0, *image.shape[:2]), np.uint8)

    def _segment_box(self, box: np.ndarray) -> Any:
        masks, predicted_iou, _ = self.model.predict(box=box, multimask_output=True)
        return masks[predicted_iou.argmax()]

    def _name_pixels(self, image: np.ndarray, um_per_px: float) -> np.ndarray:
        from trainables.export.tiles import segment_image
        from trainables.model.device import pick_device

        assert self.classes is not None
        ids = np.array(list(self.classes.names), np.uint8)
        named: np.ndarray = ids[segment_image(self.model, image, self.classes.find_tile(um_per_px), pick_device())]
        return named


def _load_predictor(folder: Path) -> Any:
    """Returns the stock predictor of ``sam2.pt``; a config that sam2 does not hold lies beside it."""
    import torch
    from hydra import initialize_config_dir, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    config, device = (folder / "config.txt").read_text().strip(), "cuda" if torch.cuda.is_available() else "cpu"
    if (folder / config).is_file():
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(folder.absolute()), version_base="1.2"):
            model = build_sam2(config, str(folder / "sam2.pt"), device=device)
        GlobalHydra.instance().clear()
        initialize_config_module("sam2", version_base="1.2")  # as importing sam2 does, for its own configs
    else:
        model = build_sam2(config, str(folder / "sam2.pt"), device=device)
    predictor, side = SAM2ImagePredictor(model), model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]  # it assumes 1024
    return predictor


set_model(Segmenter())
