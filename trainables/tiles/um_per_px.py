"""Micrometres a pixel, from where data sets have it: ``dataset.yaml``, file names, resolution tags."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from trainables.errors import count_things

# Beyond these a tag is a printer's or a screen's: 72 dpi would be 353 um a pixel.
MIN_UM, MAX_UM = 0.02, 20.0
_NAME = re.compile(r"(?:^|[^a-z])mpp[-_=]?(\d*\.\d+|\d+)", re.IGNORECASE)  # MPP-0.2500 in names of TCGA regions


class Scale(NamedTuple):
    """Micrometres a pixel, and where the number is from; 0 and nothing where it is unknown."""

    um_per_px: float = 0.0
    source: str = ""


def is_plausible(um_per_px: float) -> bool:
    """Says whether a microscope can have made such pixels."""
    return MIN_UM <= um_per_px <= MAX_UM


def find_in_name(name: str) -> Scale:
    """Returns the scale that a file's name holds, such as ``..._MPP-0.2500.png``."""
    found = _NAME.search(name)
    um = float(found[1].rstrip(".")) if found else 0.0
    return Scale(um, "file names") if is_plausible(um) else Scale()


def convert_resolution(pixels: float, unit_um: float) -> Scale:
    """Returns the scale of a resolution tag: so many pixels in a unit of so many micrometres."""
    um = unit_um / pixels if pixels > 0 else 0.0
    return Scale(round(um, 6), "resolution tags") if is_plausible(um) else Scale()


def describe_scales(scales: Sequence[Scale]) -> str:
    """Says in words which scales regions have; empty where none is known."""
    known = [scale for scale in scales if scale.um_per_px]
    if not known:
        return ""
    sizes, sources = sorted({one.um_per_px for one in known}), Counter(one.source for one in known)
    span = f"{sizes[0]:g}" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g}"
    n_unknown = len(scales) - len(known)
    unknown = f"; unknown for {count_things(n_unknown, 'region')}" * bool(n_unknown)
    return f"{span} um a pixel (from {', '.join(sources)}){unknown}"
