"""HTML of a report, built so that no text can be taken for markup: tags, tables, inline pictures, the style."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from trainables.data.images import read_image
from trainables.errors import DataError

JPEG_QUALITY = 88

STYLE = """
:root { color-scheme: light; --ink: #2f3a45; --soft: #66727e; --line: #dde2e7; --paper: #fff; --wash: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue",
  Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 36px 56px; background: var(--paper); }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 22px 0 4px; }
p { margin: 6px 0; max-width: 80ch; }
.soft { color: var(--soft); }
.caveats { margin: 18px 0; padding: 10px 16px; background: #fff6df; border-left: 4px solid #e69f00; }
.caveats ul { margin: 4px 0; padding-left: 20px; }
.verdict { margin: 18px 0; padding: 14px 18px; border-left: 6px solid #98a2ad; background: var(--wash); }
.verdict.beaten { border-color: #009e73; }
.verdict.lost { border-color: #d55e00; }
.verdict b { font-size: 22px; }
table { border-collapse: collapse; margin: 10px 0; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; vertical-align: top; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { text-align: left; font-weight: 600; color: var(--soft); }
thead th { vertical-align: bottom; border-bottom-width: 2px; white-space: normal; }
td.number, th.number { text-align: right; }
td.wide { white-space: normal; min-width: 16em; overflow-wrap: anywhere; }
tr.leading td { font-weight: 600; background: #fdf1ea; }
.scroll { overflow-x: auto; }
figure { margin: 12px 0 20px; }
figure img { max-width: 100%; height: auto; }
input.zoom { display: none; }
input.zoom + img { cursor: zoom-in; }
input.zoom:checked + img { cursor: zoom-out; max-width: none; }
figcaption { color: var(--soft); font-size: 13.5px; max-width: 80ch; }
pre { background: var(--wash); padding: 10px 14px; overflow-x: auto; font-size: 12.5px; line-height: 1.45;
  white-space: pre-wrap; overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); }
@media print {
  body { background: #fff; font-size: 12px; }
  main { padding: 0; max-width: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .verdict, .caveats { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 9.5px; }
  th, td { white-space: normal; padding-right: 6px; }
}
"""


class Markup(str):
    """Text that is HTML already; any other text is escaped by :func:`tag`."""


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """Returns an element; children and attributes that are no markup are escaped.

    Args:
        name: Of the element.
        children: Text and markup, in their order.
        attributes: By name; a trailing underscore is dropped, as in ``class_``.
    """
    told = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in ("br", "img", "input", "meta"):
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Joins text and markup; text is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def make_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    leading: Sequence[int] = (),
    wide: Sequence[int] = (),
) -> Markup:
    """Returns a table.

    Args:
        titles: Of the columns.
        rows: Cells, as many as there are titles.
        numbers: Indices of the columns that are set to the right.
        leading: Indices of the rows that stand out.
        wide: Indices of the columns whose text may be broken into lines.
    """
    classes = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(wide, "wide")}
    kinds = [{"class_": classes[index]} if index in classes else {} for index in range(len(titles))]
    head = tag("tr", *(tag("th", title, **kind) for title, kind in zip(titles, kinds, strict=True)))
    body = [
        tag(
            "tr",
            *(tag("td", cell, **kind) for cell, kind in zip(row, kinds, strict=True)),
            **({"class_": "leading"} if index in leading else {}),
        )
        for index, row in enumerate(rows)
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def show_svg(svg: str, alt: str, caption: str = "") -> Markup:
    """Returns a figure with an SVG inside.

    It is embedded as a picture rather than as elements: two drawings share names of their parts.
    """
    return _caption(tag("img", src=f"data:image/svg+xml;base64,{_encode(svg.encode())}", alt=alt), caption)


def show_picture(path: Path, caption: str = "") -> Markup:
    """Returns a figure with a picture inside that a click enlarges.

    It becomes a JPEG: tissue is a tenth as large as that. In place of one that cannot be read stands why.
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(read_image(path)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    except DataError as error:
        return tag("p", f"{path.name} cannot be shown: {error.findings[0].what}", class_="soft")
    picture_tag = tag("img", src=f"data:image/jpeg;base64,{_encode(buffer.getvalue())}", alt=path.stem)
    # Without a script: the label's click checks the box, and the style sheet enlarges what stands beside it.
    zoom = tag("label", tag("input", type="checkbox", class_="zoom"), picture_tag)
    return _caption(tag("div", zoom, class_="scroll"), caption)


def _caption(shown: Markup, caption: str) -> Markup:
    return tag("figure", shown, *([tag("figcaption", caption)] if caption else []))


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def wrap_page(title: str, *body: str) -> str:
    """Returns the whole document; it loads nothing from anywhere."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", title),
        tag("style", Markup(STYLE)),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', *head), tag('body', tag('main', *body)), lang='en')}\n"
