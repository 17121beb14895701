"""Segments images that nobody has annotated, by the export of a search over class prompts.

``python -m search.predict --model best/ IMAGE... --out masks/`` writes for each image a mask of class ids and an
overlay, and one legend. Images may have any size: tissue keeps the scale that it had in training.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from search.command_line.exit_codes import run_command
from search.command_line.out_folder import check_out, fill_out
from search.command_line.paths import expand_path
from search.errors import ConfigError, SearchError
from trainables.data.images import read_image
from trainables.errors import Finding, collect_findings

if TYPE_CHECKING:
    from trainables.export.class_export import ClassExport


OVERLAYS_FOLDER = "overlays"
LEGEND_FILE = "legend.json"
_COLORS_FILE = "legend.png"


def predict_images(model_folder: Path, images: Sequence[Path], out: Path, checkpoint: str | None = None) -> list[Path]:
    """Writes masks, overlays and the legend; returns the masks' files, in the order of the images.

    Args:
        model_folder: What ``search.export`` made of a search over class prompts.
        images: PNG, JPEG or TIFF files, 8 bits a channel, of any size.
        out: Made, and only when everything is in it; must not exist, or be an empty folder. It gets ``NAME.png`` for
            each image (one channel, the data set's class ids), ``overlays/NAME.png``, ``legend.json`` and
            ``legend.png``.
        checkpoint: The base's weights, for exports whose adapter could not be merged with them; None for nano's own.

    Raises:
        ConfigError: With every finding: an export that is none or needs prompts, images that cannot be read or whose
            masks would have one name or the legend's, an output folder that holds files or cannot be made.
        SearchError: If something cannot be written.
    """
    # Imported late: they take seconds, which a mistyped option should not.
    from trainables.export.class_export import load_class_export
    from trainables.export.semantic_overlay import draw_classes
    from trainables.export.tiles import segment_image
    from trainables.model.device import pick_device

    findings = [*check_out(out), *_check_names(images)]
    loaded = None
    with collect_findings(findings):
        loaded = load_class_export(model_folder, checkpoint)
    for path in dict.fromkeys(images):
        with collect_findings(findings):
            read_image(path)  # whole, as a picture can be cut off anywhere; not kept, as there may be many
    if findings or loaded is None:
        raise ConfigError(findings)
    export, model = loaded
    device = pick_device()
    with fill_out(out) as partial:
        try:
            (partial / OVERLAYS_FOLDER).mkdir()
            _write_legend(partial, export)
            ids = np.array(list(export.names), np.uint8)
            for path in images:
                image = read_image(path)
                named = segment_image(model, image, export.tile_px, device)
                _write_picture(partial / f"{path.stem}.png", ids[named])
                _write_picture(partial / OVERLAYS_FOLDER / f"{path.stem}.png", draw_classes(image, named, len(ids) - 1))
        except OSError as error:
            raise SearchError(f"{out} cannot be written: {error.strerror or error}") from error
    return [out / f"{path.stem}.png" for path in images]


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
    content = {"classes": entries, "tile_px": list(export.tile_px), "model": export.model}
    (folder / LEGEND_FILE).write_text(json.dumps(content, indent=1) + "\n")
    _write_picture(folder / _COLORS_FILE, draw_legend(list(export.names.values())))


def _write_picture(path: Path, picture: np.ndarray) -> None:
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", stored)[1]
    path.write_bytes(encoded.tobytes())  # imwrite would answer a full disk with False alone


def _expand_image(text: str) -> Path:
    """Returns an image's path, links unfollowed: the mask is called as the link is."""
    expand_path(text)
    return Path(os.path.expanduser(text))


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and segments the images; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.predict", description=__doc__.split("\n\n")[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or TIFF, of any size")
    parser.add_argument("--model", required=True, metavar="DIR", help="folder that search.export made")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of the base, for an export without sam2.pt")
    arguments = parser.parse_args(argv)

    def predict() -> None:
        out = expand_path(arguments.out)
        if arguments.checkpoint is not None:
            expand_path(arguments.checkpoint)  # or a hub id, so that it stays as it is
        images = [_expand_image(text) for text in arguments.images]
        masks = predict_images(expand_path(arguments.model), images, out, arguments.checkpoint)
        for mask in masks:
            print(mask)
        print(f"{len(masks)} masks; ids and colors: {out / LEGEND_FILE}; overlays: {out / OVERLAYS_FOLDER}")

    return run_command(predict)


if __name__ == "__main__":
    sys.exit(main())
