"""Masks of images that nobody has annotated: from files to files, and all that stands in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import search.predict
import trainables.export.tiles
from search.errors import ConfigError
from search.predict import DONE_FILE, LEGEND_FILE, OVERLAYS_FOLDER, main, predict_images
from trainables.data.images import read_mask
from trainables.demo.tissue import make_region
from trainables.export.class_export import ClassExport
from trainables.export.merged import MERGED_FILE
from trainables.model.class_prompts import save_class_prompts, start_class_prompts
from trainables.model.weights import load_model

NAMES = {1: "tumor", 2: "stroma", 18: "vessel", 0: "background"}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export as a search over class prompts leaves it, of nano before any training."""
    folder = tmp_path_factory.mktemp("model") / "best"
    folder.mkdir()
    nano = load_model("nano", None)
    torch.save({"model": nano.state_dict()}, folder / MERGED_FILE)
    save_class_prompts(start_class_prompts(nano, len(NAMES) - 1, 1, seed=0), folder)
    ClassExport("nano", NAMES, (96, 96)).write(folder)
    return folder


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several kinds and sizes."""
    folder = tmp_path_factory.mktemp("slides")
    image = Image.fromarray(make_region(np.random.default_rng(0), side_px=160)[0])
    image.save(folder / "larger.png")
    image.crop((0, 0, 96, 96)).save(folder / "tile.jpg", quality=95)
    image.crop((0, 0, 50, 30)).convert("L").save(folder / "smaller.tif")
    (folder / "broken.png").write_bytes((folder / "larger.png").read_bytes()[:2000])
    (folder / "text.jpg").write_text("no picture")
    return folder


def test_masks_hold_class_ids_at_the_images_own_sizes(export: Path, slides: Path, tmp_path: Path) -> None:
    images = [slides / name for name in ("larger.png", "tile.jpg", "smaller.tif")]
    masks = list(predict_images(export, images, tmp_path / "masks"))
    assert [mask.name for mask in masks] == ["larger.png", "tile.png", "smaller.png"]
    for mask, shape in zip(masks, [(160, 160), (96, 96), (30, 50)], strict=True):
        ids = read_mask(mask)
        assert ids.shape == shape and set(np.unique(ids)) <= set(NAMES)
        with Image.open(mask) as picture, Image.open(mask.parent / OVERLAYS_FOLDER / mask.name) as overlay:
            assert picture.mode == "L" and overlay.mode == "RGB" and overlay.size == picture.size
    assert len(np.unique(read_mask(masks[0]))) > 1
    legend = json.loads((tmp_path / "masks" / LEGEND_FILE).read_text())
    assert {entry["id"]: entry["name"] for entry in legend["classes"]} == NAMES
    assert [entry["name"] for entry in legend["classes"] if entry["overlay_color"] is None] == ["background"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks"]


@pytest.mark.parametrize(
    ("trained_um", "dpi", "option", "tile"),
    [
        *((0.5, None, [], 96), (0.5, 25400 / 0.25, [], 192), (0.5, 25400 / 0.25, ["--um-per-px", "1"], 48)),
        (0.0, 25400 / 0.25, [], 96),
    ],
)
def test_tissue_is_seen_at_the_scale_of_training(
    export: Path,
    slides: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    trained_um: float,
    dpi: float | None,
    option: list[str],
    tile: int,
) -> None:
    model = shutil.copytree(export, tmp_path / "best")
    ClassExport("nano", NAMES, (96, 96), trained_um).write(model)
    with Image.open(slides / "larger.png") as picture:
        picture.save(tmp_path / "a.png", **({"dpi": (dpi, dpi)} if dpi else {}))
    seen, segment = [], trainables.export.tiles.segment_image
    monkeypatch.setattr(
        trainables.export.tiles, "segment_image", lambda *arguments: seen.append(arguments[2]) or segment(*arguments)
    )
    arguments = [str(tmp_path / "a.png"), "--model", str(model), "--out", str(tmp_path / "masks")]
    assert main([*arguments, *option]) == 0
    assert seen == [(tile, tile)]
    assert ("taken to have the 0.5" in capsys.readouterr().err) == (trained_um > 0 and dpi is None and not option)
    other = ["--um-per-px", "0.3"]
    assert main([*arguments, *other]) == 2 and "at another scale" in capsys.readouterr().err
    if trained_um > 0:
        assert main([*arguments[:-1], str(tmp_path / "far"), "--um-per-px", "20"]) == 2
        assert "20 um a pixel is too far from training's 0.5" in capsys.readouterr().err


def test_all_findings_are_reported_at_once_and_nothing_is_written(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masks"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    images = [str(slides / name) for name in ("larger.png", "broken.png", "text.jpg", "missing.png")]
    assert main([*images, str(slides / "LARGER.tif"), "--model", str(tmp_path / "none"), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    for part in (
        *("exists and is not empty", "no such folder", "would overwrite", "cannot be decoded"),
        *("is no PNG, JPEG or TIFF", "missing.png", "nothing was started"),
    ):
        assert part in err
    assert [path.name for path in tmp_path.rglob("*")] == ["masks", "mine.txt"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device; what is there stays"),
        (KeyboardInterrupt(), 130, "interrupted: 1 of 3 masks are in"),
    ],
)
def test_what_is_finished_stays_and_the_same_command_goes_on(
    export: Path,
    slides: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    names, out, write = ("larger.png", "tile.jpg", "smaller.tif"), tmp_path / "masks", search.predict._write_picture
    arguments = [*(str(slides / name) for name in names), "--model", str(export), "--out", str(out)]

    def stop_at_second_mask(path: Path, picture: np.ndarray) -> None:
        if path == out / "tile.png":
            raise error
        write(path, picture)

    monkeypatch.setattr(search.predict, "_write_picture", stop_at_second_mask)
    assert main(arguments) == code
    assert said in capsys.readouterr().err
    assert {path.name for path in out.glob("*.png")} == {"larger.png", "legend.png"}
    monkeypatch.setattr(search.predict, "_write_picture", write)
    before = (out / "larger.png").stat().st_mtime_ns
    with (out / DONE_FILE).open("a") as file:
        file.write('{"mask": "ti')  # as a kill may leave it
    assert main(arguments) == 0
    found = capsys.readouterr()
    assert "skipping 1 of 3 images" in found.err
    assert found.out.splitlines()[:3] == [str(out / name) for name in ("larger.png", "tile.png", "smaller.png")]
    assert (out / "larger.png").stat().st_mtime_ns == before
    assert len((out / DONE_FILE).read_text().splitlines()) == 3
    assert not list(out.rglob("*.partial"))


def test_a_call_that_was_stopped_before_its_first_mask_goes_on(export: Path, slides: Path, tmp_path: Path) -> None:
    (tmp_path / DONE_FILE).touch()
    assert [mask.name for mask in predict_images(export, [slides / "tile.jpg"], tmp_path)] == ["tile.png"]
    (tmp_path / "tile.png").unlink()  # a mask that is gone is made again
    assert len(list(predict_images(export, [slides / "tile.jpg", slides / "smaller.tif"], tmp_path))) == 2


@pytest.mark.parametrize("change", ["image", "model", "list"])
def test_masks_of_another_image_or_model_are_not_mixed(export: Path, slides: Path, tmp_path: Path, change: str) -> None:
    image, model, out = tmp_path / "a.png", shutil.copytree(export, tmp_path / "best"), tmp_path / "masks"
    shutil.copy(slides / "larger.png", image)
    list(predict_images(model, [image], out))
    if change == "image":
        Image.open(slides / "tile.jpg").save(image)
    elif change == "model":
        save_class_prompts(start_class_prompts(load_model("nano", None), len(NAMES) - 1, 1, seed=1), model)
    else:
        (out / DONE_FILE).write_text("[]\n")
    with pytest.raises(ConfigError, match="name a new folder"):
        list(predict_images(model, [image], out))


@pytest.mark.parametrize("name", ["legend.png", "Legend.TIF"])
def test_an_image_whose_mask_would_be_the_legend_is_refused(
    name: str, export: Path, slides: Path, tmp_path: Path
) -> None:
    (tmp_path / name).symlink_to(slides / "larger.png")
    with pytest.raises(ConfigError, match=r"would overwrite the colors' legend\.png"):
        list(predict_images(export, [tmp_path / name], tmp_path / "masks"))


@pytest.mark.parametrize("option", ["--model", "--out", "--checkpoint", "IMAGE"])
@pytest.mark.parametrize(("text", "what"), [("\udcff", "surrogates not allowed"), ("circle", "ymlink")])
def test_what_can_be_no_path_is_refused(
    option: str,
    text: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    given = {"--model": "best", "--out": "masks", "--checkpoint": "w.pt", "IMAGE": "a.png"} | {option: text}
    words = [word for name, value in given.items() if name != "IMAGE" for word in (name, value)]
    assert main([given["IMAGE"], *words]) == 2
    assert what in capsys.readouterr().err


def test_the_mask_of_a_link_is_called_as_the_link_is(export: Path, slides: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.tif").symlink_to(slides / "smaller.tif")
    (tmp_path / "here").mkdir()
    (tmp_path / "masks").symlink_to("here")
    words = ["--model", str(export), "--out", str(tmp_path / "masks")]
    assert main([str(tmp_path / "mine.tif"), *words]) == 0
    assert (tmp_path / "here" / "mine.png").is_file()


@pytest.mark.parametrize("missing", ["--model", "--out", "IMAGE"])
def test_what_is_required_is_said(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--model": ["--model", "best"], "--out": ["--out", "masks"], "IMAGE": ["a.png"]}
    with pytest.raises(SystemExit) as stopped:
        main([word for name, words in given.items() if name != missing for word in words])
    assert stopped.value.code == 2 and missing in capsys.readouterr().err
