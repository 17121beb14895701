"""The texts for CLIP, and every way to get the file wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import ConfigError
from search.plan.clip_options import read_prompt_texts
from trainables.data.regions import BCSS_CLASSES
from trainables.demo.tissue import DEMO_CLASSES


def refuse(path: Path | None, classes: list[str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_prompt_texts(path, classes)
    return [str(finding) for finding in caught.value.findings]


@pytest.mark.parametrize("classes", [BCSS_CLASSES, DEMO_CLASSES])
def test_the_shipped_texts_say_something_else_of_every_class(classes: dict[int, str]) -> None:
    texts = read_prompt_texts(None, list(classes.values()))
    assert list(texts) == list(classes.values())
    assert min(map(len, texts.values())) >= 3
    every = [text for each in texts.values() for text in each]
    assert len(set(every)) == len(every)


def test_of_the_shipped_texts_only_the_data_set_s_are_taken() -> None:
    assert list(read_prompt_texts(None, ["necrosis", "tumor"])) == ["necrosis", "tumor"]


def test_the_shipped_texts_say_what_they_lack() -> None:
    (finding,) = refuse(None, ["tumor", "nucleus", "fat"])
    assert "nucleus, fat" in finding and "write a file" in finding


def test_a_user_s_texts_come_in_the_data_set_s_order(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("b: [pink, 'wavy: fibers']\na:\n- Ärztebefund\n")
    assert read_prompt_texts(path, ["a", "b"]) == {"a": ("Ärztebefund",), "b": ("pink", "wavy: fibers")}
    assert list(read_prompt_texts(path, None)) == ["b", "a"]


def test_everything_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("tumour: [x]\nstroma: []\nnecrosis: dead\nvessel: [a, 3, '  ', [b]]\n")
    found = refuse(path, ["tumor", "stroma", "necrosis", "vessel"])
    expected = {
        "texts.yaml:1 tumour": "did you mean 'tumor'?",
        "texts.yaml:2 stroma": "empty",
        "texts.yaml:3 necrosis": "must be a list",
        "texts.yaml:4 vessel[1]": "must be text",
        "texts.yaml:4 vessel[2]": "is blank",
        "texts.yaml:4 vessel[3]": "must be text",
        "texts.yaml": "class 'tumor' of the data set has no texts",
    }
    assert len(found) == len(expected)
    for where, what in expected.items():
        assert any(one.startswith(f"{where}: ") and what in one for one in found), where


@pytest.mark.parametrize("content", ["", "[a, b]", "tumor: [a\n", "tumor: [a]\ntumor: [b]\n", "a: &x [b]\nb: *x\n"])
def test_what_is_no_mapping_of_lists_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "texts.yaml").write_text(content)
    assert all(finding.startswith("texts.yaml") for finding in refuse(tmp_path / "texts.yaml", ["tumor"]))


def test_tags_build_no_objects(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text("tumor: !!python/object/apply:os.getcwd []\n")
    assert any("is not supported" in one for one in refuse(tmp_path / "texts.yaml", ["tumor"]))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    assert "cannot be read" in refuse(tmp_path / "none.yaml", ["tumor"])[0]
