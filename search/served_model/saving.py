"""Writes an export as an MLflow model: its code, its weights, signature and an input example."""

import logging
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CODE = Path(__file__).with_name("segmenter.py")
WEIGHTS_FILE = "sam2.pt"
# What the code reads of an export.
_FILES = (WEIGHTS_FILE, "config.txt", "*.yaml", "class_prompts.*")
_PACKAGES = ("mlflow", "numpy", "sam2", "torch", "torchvision")
_SIDE = 64


def save_segmenter(export: Path, out: Path, model: Any = None) -> None:
    """Writes a folder that ``mlflow.pyfunc.load_model`` loads; ``model`` is MLflow's own description to begin with.

    The input example is drawn, so that no patient's pixels come with it.

    Raises:
        OSError: If files of the export are missing, or the folder cannot be written.
    """
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    needs_boxes = not list(export.glob("class_prompts.json"))
    inputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype(np.uint8), (-1, -1, 3), "image")]
    ramp = np.linspace(64, 220, _SIDE).astype(np.uint8)
    example = {"image": np.stack([np.tile(ramp, (_SIDE, 1)), np.tile(ramp[:, None], (1, _SIDE))] * 2, -1)[..., :3]}
    if needs_boxes:
        inputs.append(TensorSpec(np.dtype(np.float64), (-1, 4), "boxes"))
        example["boxes"] = np.array([[8.0, 8.0, 40.0, 48.0]])
    output = TensorSpec(np.dtype(np.uint8), (-1, -1, -1) if needs_boxes else (-1, -1))
    params = ParamSchema([] if needs_boxes else [ParamSpec("um_per_px", DataType.double, 0.0)])
    with tempfile.TemporaryDirectory(prefix="model-") as scratch, warnings.catch_warnings(record=True):
        # Not on the screen: MLflow wants types in the signature of predict, which would take the place of ours.
        files = Path(scratch) / "export"
        files.mkdir()
        for path in (path for pattern in _FILES for path in export.glob(pattern)):
            shutil.copyfile(path, files / path.name)
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # no line on the search's screen
        pyfunc.save_model(
            out,
            python_model=str(CODE),
            artifacts={"export": str(files)},
            signature=ModelSignature(Schema(inputs), Schema([output]), params),
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
            **({} if model is None else {"mlflow_model": model}),
        )
