"""Masks with a palette: the index is the class id. If the palette's colors encode the classes, indices mislead."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from trainables.data.images import Palette
from trainables.errors import Finding, list_some


def add_palette_hint(finding: Finding, palette: Palette) -> Finding:
    """Returns a finding about ids without meaning, extended by the palette of the mask's ids if that is not empty."""
    if not palette:
        return finding
    shown = list_some([f"{one} {_write_color(color)}" for one, color in palette.items()])
    hint = f"it has a palette: the indices are read and not the colors ({shown})"
    return replace(finding, fix=f"{finding.fix}; {hint}; if the colors mean classes, save ids as 8-bit gray")


def find_palette_clashes(palettes: Iterable[tuple[str, Palette]], classes: Mapping[int, str]) -> list[Finding]:
    """Finds a class that two masks show in different colors: then each file numbered its own colors.

    Returns:
        At most one warning per data set, on the first mask that differs: palettes may be decoration.
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
