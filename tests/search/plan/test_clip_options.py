"""The texts for CLIP, every way to get the file wrong, and the options of the naming step."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.command_line.options import make_parser, parse_options
from search.errors import ConfigError
from search.plan.clip_options import HOW_TO_GET_WEIGHTS, ONE_CLASS, NamingSettings, check_naming, read_prompt_texts
from trainables.data.regions import BCSS_CLASSES
from trainables.demo.tissue import DEMO_CLASSES

CLASSES = tuple(DEMO_CLASSES.values())


def refuse_texts(path: Path | None, classes: list[str]) -> list[str]:
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
    (finding,) = refuse_texts(None, ["tumor", "nucleus", "fat"])
    assert "nucleus, fat" in finding and "write a file" in finding


def test_a_user_s_texts_come_in_the_data_set_s_order(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("b: [pink, 'wavy: fibers']\na:\n- Ärztebefund\n")
    assert read_prompt_texts(path, ["a", "b"]) == {"a": ("Ärztebefund",), "b": ("pink", "wavy: fibers")}
    assert list(read_prompt_texts(path, None)) == ["b", "a"]


def test_everything_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("tumour: [x]\nstroma: []\nnecrosis: dead\nvessel: [a, 3, '  ', [b]]\n")
    found = refuse_texts(path, ["tumor", "stroma", "necrosis", "vessel"])
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
    assert all(finding.startswith("texts.yaml") for finding in refuse_texts(tmp_path / "texts.yaml", ["tumor"]))


def test_tags_build_no_objects(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text("tumor: !!python/object/apply:os.getcwd []\n")
    assert any("is not supported" in one for one in refuse_texts(tmp_path / "texts.yaml", ["tumor"]))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    assert "cannot be read" in refuse_texts(tmp_path / "none.yaml", ["tumor"])[0]


def check(*options: str, classes: tuple[str, ...] | None = CLASSES) -> NamingSettings | str:
    return check_naming(parse_options(make_parser(), ["--space", "lora.yaml", *options]), classes)


def refuse(*options: str, classes: tuple[str, ...] | None = CLASSES) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(*options, classes=classes)
    return [str(finding) for finding in caught.value.findings]


def test_without_weights_one_line_says_how_to_get_them() -> None:
    assert check() == ""
    assert check("--clip-model", "ViT-L-14") == HOW_TO_GET_WEIGHTS
    assert "\n" not in HOW_TO_GET_WEIGHTS and "--clip-weights" in HOW_TO_GET_WEIGHTS


def test_settings_know_texts_and_the_absolute_path(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_clip.parent)
    settings = check("--clip-weights", tiny_clip.name)
    assert settings == NamingSettings(None, str(tiny_clip.resolve()), read_prompt_texts(None, CLASSES))


def test_one_class_needs_no_name(tiny_clip: Path) -> None:
    assert check("--clip-weights", str(tiny_clip), classes=("nucleus",)) == ONE_CLASS


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text("tumor: []\n")
    texts = ("--prompt-texts", str(tmp_path / "texts.yaml"))
    found = refuse("--clip-model", "ViT-B32", *texts)
    assert "did you mean 'ViT-B-32'" in found[0]
    assert len(found) == 1 + 1 + len(CLASSES) - 1
    assert "no such file" in refuse("--clip-weights", "clip.pt", *texts)[0]


def test_weights_are_loaded_before_anything_starts(tiny_clip: Path, tmp_path: Path) -> None:
    other = tiny_clip / "open_clip_model.safetensors"  # without the folder's configuration: ViT-B-32 is assumed
    assert "does not fit the model ViT-B-32" in refuse("--clip-weights", str(other))[0]
    (tmp_path / "clip.pt").write_bytes(b"damaged")
    assert "it was not opened" in refuse("--clip-weights", str(tmp_path / "clip.pt"))[0]


def test_where_the_data_cannot_be_read_the_rest_is_still_checked(tiny_clip: Path) -> None:
    assert isinstance(check("--clip-weights", str(tiny_clip), classes=None), NamingSettings)
    assert "no such model" in refuse("--clip-model", "x", classes=None)[0]


def test_other_classes_than_bcss_s_need_texts_of_their_own(tiny_clip: Path) -> None:
    (finding,) = refuse("--clip-weights", str(tiny_clip), classes=("gland", "tumor"))
    assert "gland" in finding
