"""Segments images that nobody has annotated, by the export of a search over class prompts.

``python -m search.predict --model best/ IMAGE... --out masks/`` writes for each image a mask of class ids and an
overlay, and one legend. Images may have any size up to 178 megapixels: tissue is seen at the scale that it had in
training, by micrometres a pixel where both are known. What is finished stays when the command is stopped; the same
command then goes on with the other images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from search.command_line.command_parser import make_command
from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.numbers import parse_um
from search.command_line.out_folder import check_out, refuse_unmade
from search.command_line.paths import expand_path
from search.errors import ConfigError, SearchError
from trainables.data.images import read_bytes, read_image, read_scale
from trainables.errors import Finding, collect_findings
from trainables.files.progress import follow, logger
from trainables.files.whole_file import cut_torn_line, write_whole
from trainables.tiles.um_per_px import find_in_name

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from trainables.export.class_export import ClassExport


OVERLAYS_FOLDER = "overlays"
LEGEND_FILE = "legend.json"
DONE_FILE = "done.jsonl"
_COLORS_FILE = "legend.png"


def predict_images(
    model_folder: Path, images: Sequence[Path], out: Path, checkpoint: str | None = None, um_per_px: float = 0.0
) -> Iterator[Path]:
    """Writes the legend, and of one image after the other the overlay and the mask.

    What is written stays, whatever stops the loop: a second call with the same model segments the other images.

    Args:
        model_folder: What ``search.export`` made of a search over class prompts.
        images: PNG, JPEG or TIFF files, 8 bits a channel, up to 178 megapixels.
        out: Must not exist, be empty, or hold masks of an earlier call. It gets ``NAME.png`` for each image (one
            channel, the data set's class ids), ``overlays/NAME.png``, ``legend.json``, ``legend.png``, and
            ``done.jsonl``, a line for each mask with the hashes of image and model.
        checkpoint: The base's weights, for exports whose adapter could not be merged with them; None for nano's own.
        um_per_px: Micrometres a pixel of all images; 0 for what their names or resolution tags say. Where that is
            nothing, or the training regions' scale is unknown, an image is taken to have their scale.

    Yields:
        Each mask's file: those of earlier calls, then the others in the order of the images.

    Raises:
        ConfigError: With every finding: an export that is none or needs prompts, images that cannot be read or whose
            masks would have one name or the legend's or that of another call, an output folder that holds other files
            or cannot be made.
        SearchError: If something cannot be written.
    """
    # Imported late: they take seconds, which a mistyped option should not.
    from trainables.export.class_export import load_class_export
    from trainables.export.semantic_overlay import draw_classes
    from trainables.export.tiles import segment_image
    from trainables.model.device import pick_device

    findings = [] if os.path.isfile(out / DONE_FILE) else check_out(out)
    findings += _check_names(images)
    done: dict[str, dict[str, str]] = {}
    loaded, model_hash = None, ""
    with collect_findings(findings):
        done = _read_done(out / DONE_FILE)
    with collect_findings(findings):
        loaded = load_class_export(model_folder, checkpoint)
        model_hash = _hash_model(model_folder, loaded[1])
    left: dict[Path, dict[str, str]] = {}
    tiles: dict[Path, tuple[int, int]] = {}
    n_unknown = 0
    for path in dict.fromkeys(images):
        with collect_findings(findings):
            data = read_bytes(path)
            entry = {"mask": f"{path.stem}.png", "image": _hash(data), "model": model_hash}
            entry |= {"um_per_px": f"{um_per_px:g}"} if um_per_px else {}
            if entry["mask"] not in done:
                left[path] = entry
                read_image(path, is_alone=True)  # whole: a picture can be cut off anywhere; not kept: there may be many
                um = um_per_px or find_in_name(path.name).um_per_px or read_scale(data).um_per_px
                n_unknown += not um
                if loaded:
                    tiles[path] = _find_tile(loaded[0], path, um)
            elif loaded and done[entry["mask"]] != entry:
                what = f"{out} holds a mask of this name, of another image, by another model or at another scale"
                findings.append(Finding(str(path), what, "name a new folder"))
    if findings or loaded is None:
        raise ConfigError(findings)
    export, model = loaded
    with refuse_unmade(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / DONE_FILE).touch()  # first: it says that this folder is to be gone on with
    if skipped := [out / f"{path.stem}.png" for path in images if path not in left]:
        logger.info("skipping %d of %d images, whose masks are in %s", len(skipped), len(images), out)
        yield from skipped
    if export.um_per_px and n_unknown:
        taken = f"taken to have the {export.um_per_px:g} of the training regions (--um-per-px says otherwise)"
        logger.info("%d of %d images do not say how many um a pixel has: %s", n_unknown, len(left), taken)
    device, ids = pick_device(), np.array(list(export.names), np.uint8)
    try:
        (out / OVERLAYS_FOLDER).mkdir(exist_ok=True)
        _write_legend(out, export)
        for path, entry in follow(left.items(), len(left), "images"):
            image = read_image(path)
            named = segment_image(model, image, tiles[path], device)
            _write_picture(out / OVERLAYS_FOLDER / entry["mask"], draw_classes(image, named, len(ids) - 1))
            _write_picture(out / entry["mask"], ids[named])
            with (out / DONE_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            yield out / entry["mask"]
    except OSError as error:
        raise SearchError(f"{out} cannot be written: {error.strerror or error}; what is there stays") from error


def _find_tile(export: ClassExport, path: Path, um_per_px: float) -> tuple[int, int]:
    try:
        return export.find_tile(um_per_px)
    except ValueError as error:
        fix = "correct its name or its resolution tags, or pass --um-per-px"
        raise ConfigError.at(path, str(error), fix) from error


def _read_done(path: Path) -> dict[str, dict[str, str]]:
    """Returns the lines of ``done.jsonl`` by mask, without masks that are gone and a line that a kill cut off."""
    try:
        cut_torn_line(path)
        entries = [json.loads(line) for line in path.read_text().splitlines()] if os.path.isfile(path) else []
        return {entry["mask"]: entry for entry in entries if (path.parent / entry["mask"]).is_file()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError.at(path, f"cannot be read: {error}", "name a new folder") from error


def _hash_model(folder: Path, model: SAM2Base) -> str:
    from trainables.export.class_export import CLASS_EXPORT_FILE
    from trainables.model.class_prompts import CLASS_PROMPTS_FILE
    from trainables.model.pathology_encoder import compute_fingerprint

    files = b"".join((folder / name).read_bytes() for name in (CLASS_EXPORT_FILE, CLASS_PROMPTS_FILE))
    return _hash(files + compute_fingerprint(model).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_names(images: Sequence[Path]) -> list[Finding]:
    """Returns a finding for each mask that would overwrite another or the legend, also where file names ignore case."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        by_name[path.stem.lower()].append(path)
    findings = [
        Finding(str(paths[0]), f"its mask would overwrite that of {paths[1]}", "segment them in separate calls")
        for paths in by_name.values()
        if len(paths) > 1
    ]
    for path in by_name.get(Path(_COLORS_FILE).stem, ()):
        findings.append(Finding(str(path), f"its mask would overwrite the colors' {_COLORS_FILE}", "rename the image"))
    return findings


def _write_legend(folder: Path, export: ClassExport) -> None:
    """Writes what the ids and colors mean, for programs and for eyes."""
    from trainables.export.semantic_overlay import draw_legend, pick_colors

    colors = pick_colors(len(export.names))
    entries = [
        {"id": class_id, "name": name, "overlay_color": list(color) if color else None}
        for (class_id, name), color in zip(export.names.items(), colors, strict=True)
    ]
    content = {
        "classes": entries,
        "tile_px": list(export.tile_px),
        "um_per_px": export.um_per_px,
        "model": export.model,
    }
    write_whole(folder / LEGEND_FILE, json.dumps(content, indent=1) + "\n")
    _write_picture(folder / _COLORS_FILE, draw_legend(list(export.names.values())))


def _write_picture(path: Path, picture: np.ndarray) -> None:
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", stored)[1]
    write_whole(path, encoded.tobytes())  # imwrite would answer a full disk with False alone


def _expand_image(text: str) -> Path:
    """Returns an image's path, links unfollowed: the mask is called as the link is."""
    expand_path(text)
    return Path(os.path.expanduser(text))


def make_parser() -> argparse.ArgumentParser:
    parser = make_command(
        "predict",
        "Segments images without any prompt, by the export of a search over classprompts.yaml. Finished masks stay "
        "when it is stopped; the same command goes on with the other images.",
        {"--model runs/NAME/export slides/*.png --out masks/": "a mask of class ids and an overlay for each image"},
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or TIFF, up to 178 megapixels")
    parser.add_argument("--model", required=True, metavar="DIR", help="folder that search.export made")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--um-per-px",
        type=parse_um,
        default=0.0,
        metavar="UM",
        help="micrometres a pixel of all images (default: by their names, MPP-0.2500, or resolution tags)",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of the base, for an export without sam2.pt")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and segments the images; returns the exit code."""
    arguments = make_parser().parse_args(argv)

    def predict() -> None:
        out = expand_path(arguments.out)
        if arguments.checkpoint is not None:
            expand_path(arguments.checkpoint)  # or a hub id, so that it stays as it is
        images = [_expand_image(text) for text in arguments.images]
        n_masks = 0
        kept = "{} of {} masks are in {}; the same command goes on with the others"
        with explain_stop(lambda: kept.format(n_masks, len(images), out)):
            for mask in predict_images(
                expand_path(arguments.model), images, out, arguments.checkpoint, arguments.um_per_px
            ):
                print(mask, flush=True)
                n_masks += 1
        print(f"{n_masks} masks; ids and colors: {out / LEGEND_FILE}; overlays: {out / OVERLAYS_FOLDER}")

    return run_command(predict)


if __name__ == "__main__":
    sys.exit(main())
