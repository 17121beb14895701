"""Each message that docs/troubleshooting.md quotes is one that the code can say."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# The first cell of each row; a message with a backquote in it ends with two.
MESSAGES = [match for cell in re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE) for match in cell.split("` `")]


def list_texts() -> list[str]:
    """Returns every string of the source, with a newline in place of what is filled in."""
    texts = []
    for path in [*(ROOT / "search").rglob("*.py"), *(ROOT / "trainables").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(each.value if isinstance(each, ast.Constant) else "\n" for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list_texts()


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_it(message: str, texts: list[str]) -> None:
    for part in message.strip("`").split("..."):
        assert not part.strip(" :,()") or any(part.strip() in text for text in texts), part
