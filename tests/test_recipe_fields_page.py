"""docs/spaces.md lists the recipe's fields as they are."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_table_of_recipe_fields_is_current() -> None:
    page = (DOCS / "spaces.md").read_text(encoding="utf-8")
    fill_page = runpy.run_path(str(DOCS / "list_recipe_fields.py"))["fill_page"]
    assert fill_page(page) == page, "run python docs/list_recipe_fields.py"
