"""Masks with a palette: their indices are the ids. Where its colors mean the classes, the indices may mean nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from trainables.data.images import Palette
from trainables.errors import Finding

_SHOWN = 4  # colors of a mask in one line


def add_palette_hint(finding: Finding, palette: Palette) -> Finding:
    """Returns a finding about ids with what to know of a mask's palette; unchanged where it has none.

    Args:
        finding: About ids that mean nothing.
        palette: Of the ids in the mask.
    """
    if not palette:
        return finding
    shown = ", ".join(f"{one} {_write_color(color)}" for one, color in [*palette.items()][:_SHOWN])
    more = ", ..." if len(palette) > _SHOWN else ""
    hint = f"it has a palette, of which the indices are read and not the colors ({shown}{more})"
    return replace(finding, fix=f"{finding.fix}; {hint}: if the colors mean classes, save ids as 8-bit gray")


def find_palette_clashes(palettes: Iterable[tuple[str, Palette]], classes: Mapping[int, str]) -> list[Finding]:
    """Finds classes that two masks show in different colors: indices that each file counted for itself.

    Args:
        palettes: Mask file, and the palette of its ids; empty where it has none.
        classes: Class id -> class name.

    Returns:
        At most one warning for the data set, on the first mask that differs: palettes may be mere decoration.
    """
    first: dict[int, tuple[str, tuple[int, int, int]]] = {}
    for where, palette in palettes:
        for one in classes.keys() & palette.keys():
            other, color = first.setdefault(one, (where, palette[one]))
            if color != palette[one]:
                shown = f"{_write_color(palette[one])}, that of {other} {_write_color(color)}"
                what = f"its palette has for class {one} {classes[one]} the color {shown}"
                fix = "indices are read, not colors: if the colors mean classes, save all masks as 8-bit gray of ids"
                return [Finding(where, what, fix)]
    return []


def _write_color(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
