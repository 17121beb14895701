"""Elements whose text cannot become markup."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from search.reporting.html import Markup, join, make_table, show_picture, show_svg, tag, wrap_page


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b & ", tag("b", "c")) == "<p>a &lt; b &amp; <b>c</b></p>"
    assert tag("p", "x", class_='"onclick="') == '<p class="&quot;onclick=&quot;">x</p>'
    assert join(["<i>", Markup("<br>")]) == "&lt;i&gt;<br>"


def test_elements_without_an_end_have_none() -> None:
    assert tag("br") == "<br>"
    assert tag("img", src="data:,", alt="a 'b'") == '<img src="data:," alt="a &#x27;b&#x27;">'


def test_a_table_marks_numbers_and_rows() -> None:
    table = make_table(["name", "Dice"], [["<a>", "0.5"], ["b", "0.6"]], numbers=[1], leading=[1])
    assert '<th class="number">Dice</th>' in table and '<td class="number">0.5</td>' in table
    assert "<td>&lt;a&gt;</td>" in table
    assert table.count('<tr class="leading">') == 1 and '<tr class="leading"><td>b</td>' in table


def test_pictures_lie_inside_the_page(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(path)
    assert 'src="data:image/jpeg;base64,' in show_picture(path)
    assert "<figcaption>a &lt; b</figcaption>" in show_svg("<svg/>", "alt", "a < b")


def test_a_page_forbids_to_load_anything() -> None:
    page = wrap_page("<title>", tag("p", "text"))
    assert page.startswith("<!DOCTYPE html>") and "default-src 'none'" in page
    assert "<title>&lt;title&gt;</title>" in page
