"""The options of the naming step are checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.command_line.options import make_parser, parse_options
from search.errors import ConfigError
from search.plan.clip_options import HOW_TO_GET_WEIGHTS, ONE_CLASS, NamingSettings, check_naming, read_prompt_texts
from trainables.demo.tissue import DEMO_CLASSES

CLASSES = tuple(DEMO_CLASSES.values())


def check(*options: str, classes: tuple[str, ...] | None = CLASSES) -> NamingSettings | str:
    return check_naming(parse_options(make_parser(), ["--space", "lora.yaml", *options]), classes)


def refuse(*options: str, classes: tuple[str, ...] | None = CLASSES) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(*options, classes=classes)
    return [str(finding) for finding in caught.value.findings]


def test_without_weights_one_line_says_how_to_get_them() -> None:
    assert check() == HOW_TO_GET_WEIGHTS == check("--clip-model", "ViT-L-14")
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
