"""What docs/ lists of options, fields and keys is what the code has."""

import re
import runpy
from pathlib import Path

from trainables.protocol.spec import PROTOCOLS

DOCS = Path(__file__).parent.parent / "docs"


def test_what_is_made_from_the_code_is_current() -> None:
    make_pages = runpy.run_path(str(DOCS / "make_reference.py"))["make_pages"]
    for page, text in make_pages().items():
        assert page.read_text(encoding="utf-8") == text, "run python docs/make_reference.py"


def test_the_table_of_protocols_names_all_with_their_ids() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9a-f]{8}) \|", (DOCS / "protocol.md").read_text(), re.MULTILINE)
    assert rows == [(name, protocol.id) for name, protocol in PROTOCOLS.items()]
