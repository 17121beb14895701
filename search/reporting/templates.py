"""Loads the templates of the report (``page.html``) and of a model's card (``card.md``)."""

import math
from pathlib import Path

import jinja2


def load_template(name: str, digits: int) -> jinja2.Template:
    """Returns a template of this folder; in HTML every value is escaped, and a missing value is an error.

    Its filters write a number, or nothing for one that is not finite: ``dice`` and ``gain`` (with its sign), to so many
    decimals, and ``thousands``.
    """

    def write(number: float, pattern: str) -> str:
        return pattern.format(number) if math.isfinite(number) else ""

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["dice"] = lambda number: write(number, f"{{:.{digits}f}}")
    environment.filters["gain"] = lambda number: write(number, f"{{:+.{digits}f}}")
    environment.filters["thousands"] = lambda number: write(number, "{:,.0f}")
    return environment.get_template(name)
