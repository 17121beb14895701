"""Writes the table of every recipe field into docs/spaces.md; run it as ``python docs/list_recipe_fields.py``."""

from __future__ import annotations

from pathlib import Path

from trainables.recipe import FieldRule, Recipe, Scalar, list_rules

PAGE = Path(__file__).with_name("spaces.md")
BEGIN, END = "<!-- recipe fields -->", "<!-- end of recipe fields -->"


def make_table() -> str:
    """Returns a table in Markdown: a row for each field with its kind, range or choices, default and meaning."""
    defaults = Recipe().to_flat()
    rows = ["| field | kind | values | default | meaning |", "|---|---|---|---|---|"]
    for name, rule in list_rules().items():
        cells = [f"`{name}`", rule.kind.__name__, _spell_values(rule), f"`{_spell(defaults[name])}`", rule.help]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def fill_page(page: str) -> str:
    """Returns the page with the table between its two marker comments."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PAGE} has no {BEGIN} ... {END}"
    return f"{before}{BEGIN}\n\n{make_table()}\n\n{END}{after}"


def _spell_values(rule: FieldRule) -> str:
    if rule.choices:
        return ", ".join(rule.choices)
    if rule.low is None or rule.high is None:
        return "true, false" if rule.kind is bool else "any text"
    return f"{rule.low:g} to {rule.high:g}"


def _spell(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
