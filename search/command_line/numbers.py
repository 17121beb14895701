"""Numbers on the command line: counts, seeds, durations and shares of a GPU."""

import argparse
import math
import re
from collections.abc import Callable
from typing import Literal

from trainables.tiles.grid import Tiles
from trainables.tiles.um_per_px import MAX_UM, MIN_UM, is_plausible

AUTO: Literal["auto"] = "auto"
MAX_COUNT = 1_000_000  # of trials, epochs and the like; more is a slip of the hand
MAX_SEED = 2**32 - 1  # the largest that NumPy takes


def make_whole_parser(low: int, high: int = MAX_COUNT) -> Callable[[str], int]:
    """Returns a function that reads a whole number from ``low`` to ``high`` and raises ``ArgumentTypeError``."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"[0-9]{1,20}", text) else -1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low:,} to {high:,}, but got {text!r}")
        return number

    return parse


def parse_gpu_share(text: str) -> float | Literal["auto"]:
    """Reads a number of GPUs: 0, a fraction from 0.01 to 1, or a whole number; or ``auto``.

    Raises:
        argparse.ArgumentTypeError: If it is none of these.
    """
    if text == AUTO:
        return AUTO
    share = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text) else -1.0
    if share != 0 and not 0.01 <= share <= 1 and not (1 < share < 1e4 and share.is_integer()):
        rule = "must be auto, 0, a fraction from 0.01 to 1, or a whole number of GPUs"
        raise argparse.ArgumentTypeError(f"{rule}, but got {text!r}")
    return share


def parse_tiles(text: str) -> str:
    """Returns ``SIDE_PX[,UM_PER_PX[,OVERLAP]]`` as it is, once it can be read.

    Raises:
        argparse.ArgumentTypeError: If it cannot.
    """
    try:
        Tiles.parse(text)
    except ValueError as error:
        rule = "must be side in pixels, um a pixel and overlap, such as 1024, 1024,0.5 or 1024,0.5,0.25"
        raise argparse.ArgumentTypeError(f"{rule}, but got {text!r} ({error})") from error
    return text


def parse_um(text: str) -> float:
    """Reads micrometres a pixel, as a microscope can have made them.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    um = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text) else 0.0
    if not is_plausible(um):
        raise argparse.ArgumentTypeError(f"must be micrometres a pixel, {MIN_UM:g} to {MAX_UM:g}, but got {text!r}")
    return um


def parse_duration(text: str) -> float:
    """Reads ``90``, ``90s``, ``15m`` or ``2h`` as seconds.

    Raises:
        argparse.ArgumentTypeError: If it is none of these, or not above 0.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds, or like 90s, 15m, 2h, but got {text!r}")
    return seconds


def format_seconds(seconds: float) -> str:
    """Returns ``45 s``, ``2 min 10 s`` or ``3 h 5 min``."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
