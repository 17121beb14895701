"""An export as an MLflow model: it answers as its own library does, and is registered once a choice."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from search.served_model.registry import name_model, register_model
from search.served_model.saving import save_segmenter
from search.tracking.tracker import Tracker
from trainables.evaluation.stock_predictor import build_predictor
from trainables.export.class_export import ClassExport, load_class_export
from trainables.export.merged import write_stock
from trainables.export.tiles import segment_image
from trainables.model.build import MODELS
from trainables.model.class_prompts import save_class_prompts, start_class_prompts
from trainables.model.device import pick_device
from trainables.model.weights import load_model

BOXES = np.array([[10.0, 12, 90, 100], [60, 40, 150, 158]])


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an export: nano as it ships."""
    folder = tmp_path_factory.mktemp("export")
    write_stock(MODELS["nano"], load_model("nano", None).state_dict(), folder)
    return folder


@pytest.fixture(scope="module")
def image(small_root: Path) -> np.ndarray:
    from trainables.data.images import read_image

    return read_image(small_root / "images" / "region-00.png")


def test_boxes_get_the_masks_of_the_stock_predictor(export: Path, image: np.ndarray, tmp_path: Path) -> None:
    save_segmenter(export, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    masks = model.predict({"image": image, "boxes": BOXES})
    predictor = build_predictor(load_model("nano", None).to(pick_device()))
    with torch.inference_mode():
        predictor.set_image(image)
        found = [predictor.predict(box=box, multimask_output=True) for box in BOXES]
    expected = [masks[predicted_iou.argmax()] for masks, predicted_iou, _ in found]
    assert masks.dtype == np.uint8 and np.array_equal(masks, np.stack(expected))
    assert masks.any() and not masks.all()
    assert model.predict({"image": image, "boxes": np.zeros((0, 4))}).shape == (0, *image.shape[:2])
    names = [spec.name for spec in model.metadata.signature.inputs]
    assert names == ["image", "boxes"]


def test_class_prompts_name_every_pixel_of_an_image_alone(export: Path, image: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for path in export.iterdir():
        (folder / path.name).symlink_to(path)
    save_class_prompts(start_class_prompts(load_model("nano", None), 2, 1, seed=0), folder)
    ClassExport("nano", {4: "tumor", 9: "stroma", 0: "background"}, (160, 160), 0.5).write(folder)
    save_segmenter(folder, tmp_path / "model")
    model_of_folder = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    named = model_of_folder.predict({"image": image})
    classes, model = load_class_export(folder)
    positions = segment_image(model, image, classes.tile_px, pick_device())
    assert np.array_equal(named, np.array([4, 9, 0])[positions]) and set(np.unique(named)) <= {0, 4, 9}
    finer = model_of_folder.predict({"image": image}, params={"um_per_px": 0.25})
    tile_px = classes.find_tile(0.25)
    assert tile_px == (320, 320)
    assert np.array_equal(finer, np.array([4, 9, 0])[segment_image(model, image, tile_px, pick_device())])


def test_a_choice_is_registered_once(export: Path, tracker: Tracker) -> None:
    run_id, name = tracker.start_run("s", "search"), name_model("lora")

    def register(choice: str) -> str:
        tags = {"choice": choice, "verdict": "beaten"}
        return register_model(tracker.client, tracker.experiment_id, run_id, export, name, tags, "of a test")

    assert [register("a"), register("a"), register("b")] == [f"models:/sam2-lora/{n}" for n in (1, 1, 2)]
    versions = tracker.client.search_model_versions(f"name = '{name}'")
    assert {version.tags["verdict"] for version in versions} == {"beaten"}
    assert {version.run_id for version in versions} == {run_id}


@pytest.mark.parametrize(("experiment", "name"), [("lora", "sam2-lora"), ("a/b:c", "sam2-a-b-c")])
def test_a_registry_takes_the_name(experiment: str, name: str) -> None:
    assert name_model(experiment) == name
