"""What docs/ lists of options, fields and keys is what the code has."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_what_is_made_from_the_code_is_current() -> None:
    make_pages = runpy.run_path(str(DOCS / "make_reference.py"))["make_pages"]
    for page, text in make_pages().items():
        assert page.read_text(encoding="utf-8") == text, "run python docs/make_reference.py"
