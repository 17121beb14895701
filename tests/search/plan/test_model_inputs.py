"""The pathology encoders of a search and their weights, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from search.errors import ConfigError
from search.plan.model_inputs import check_pathology, list_encoders, list_random_encoders
from search.space.config import SearchConfig
from trainables.model.pathology_encoder import load_encoder

Load = Callable[[str], SearchConfig]
LR = "optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}"
TWO = f"""
fixed: {{fusion.kind: concat}}
space:
  fusion.encoder: {{choice: [test_vit, test_resnet]}}
  {LR}
"""
ONE = f"""
fixed: {{fusion.encoder: test_vit}}
space:
  fusion.kind: {{choice: [none, concat]}}
  {LR}
"""
NONE = f"space: {{{LR}}}"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(load_encoder("test_vit", None).network.state_dict(), tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TWO, ["test_vit", "test_resnet"]),
        (ONE, ["test_vit"]),
        (NONE, []),
        ("fixed: {fusion.kind: attention}\n" + NONE, ["ctranspath"]),
        ("fixed: {fusion.encoder: test_vit}\n" + NONE, []),
        ("train: false", []),
    ],
)
def test_encoders_that_a_trial_may_use(load_space: Load, text: str, wanted: list[str]) -> None:
    assert list_encoders(load_space(text)) == wanted


def test_encoders_without_weights_are_reported_as_random(load_space: Load, weights: Path) -> None:
    found = check_pathology(load_space(TWO), [f"test_vit={weights}"], [])
    assert found == {"test_vit": str(weights.resolve())}
    (caveat,) = list_random_encoders(load_space(TWO), found)
    assert caveat.startswith("pathology encoder test_resnet has random weights")
    assert list_random_encoders(load_space(ONE), found) == list_random_encoders(load_space(NONE), {}) == ()


@pytest.mark.parametrize(
    ("text", "given", "found"),
    [
        (ONE, ["vit.safetensors"], "must be NAME=FILE"),
        (ONE, ["test_vit="], "must be NAME=FILE"),
        (ONE, ["test_vit=missing.pth"], "no such file"),
        (ONE, ["test_resnet=vit.safetensors"], "no effect on this search: it uses test_vit"),
        (NONE, ["test_vit=vit.safetensors"], "no effect on this search: it fuses nothing"),
        (TWO, ["test_resnet=vit.safetensors"], "does not fit the encoder test_resnet"),
        (ONE.replace("test_vit", "ctranspat"), [], "timm has no such encoder"),
    ],
)
def test_what_cannot_be_had_or_used_is_a_finding(
    load_space: Load, weights: Path, monkeypatch: pytest.MonkeyPatch, text: str, given: list[str], found: str
) -> None:
    monkeypatch.chdir(weights.parent)
    with pytest.raises(ConfigError, match=found):
        check_pathology(load_space(text), given, [])


def test_all_findings_come_at_once(load_space: Load, weights: Path) -> None:
    given = ["word", f"test_vit={weights}", f"test_vit={weights}", "test_resnet=missing.pth"]
    with pytest.raises(ConfigError) as caught:
        check_pathology(load_space(TWO), given, [])
    assert len(caught.value.findings) == 3
