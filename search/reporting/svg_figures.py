"""Figures of a report as SVG text, all in one style, with their legends where they cover nothing."""

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colors, which color-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
GRAY, INK = "#98a2ad", "#2f3a45"
STATE_COLORS = {"complete": BLUE, "stopped": GRAY, "failed": RED, "unfinished": ORANGE}
WIDTH = 10.4  # inches: as wide as the page

# Matplotlib types its settings as a dictionary of some 300 literal keys.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRAY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",  # looks the same on every machine
    "svg.hashsalt": "report",  # and gives the same file again
}

P = ParamSpec("P")


def as_svg(draw: Callable[P, Axes]) -> Callable[P, str]:
    """Makes a function that draws axes return their figure, with its legend, as SVG text in the report's style."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
        with style.context(_STYLE, after_reset=True):  # whatever a user's matplotlibrc says
            axes, buffer = draw(*args, **kwargs), io.StringIO()
            figure = axes.figure
            assert isinstance(figure, Figure)
            _draw_legend(figure, axes)
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

    return drawn


def make_axes(height: float = 3.2) -> Axes:
    return Figure(figsize=(WIDTH, height), layout="constrained").add_subplot()


def _draw_legend(figure: Figure, axes: Axes) -> None:
    """Puts the legend outside the axes, above several and beside one, where it covers no point; each label once."""
    entries: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        entries.setdefault(label, handle)
    handles, labels = list(entries.values()), list(entries)
    if len(figure.axes) > 1 and entries:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(entries))
    elif entries:
        figure.legend(handles, labels, loc="outside right upper")
