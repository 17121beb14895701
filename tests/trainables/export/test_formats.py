from dataclasses import replace

import pytest

from search.export import FORMATS as OFFERED
from trainables.context import TrialContext
from trainables.export import formats
from trainables.export.formats import FORMATS, find_unfit
from trainables.protocol.spec import PROTOCOLS


def test_the_command_offers_every_format() -> None:
    assert OFFERED == tuple(FORMATS)


def test_what_no_format_can_hold_is_said_of_each(context: TrialContext) -> None:
    assert find_unfit(["transformers"], context) == []
    auto = replace(context, protocol=PROTOCOLS["auto"])
    assert ["class prompts" in each.what for each in find_unfit(["transformers", "qupath"], auto)] == [
        True,
        True,
        False,
    ]
    (found,) = find_unfit(["transformers"], context, "a fusion with the encoder uni")
    assert found.what.startswith("a fusion with the encoder uni cannot be merged") and "README.md" in found.fix


@pytest.mark.parametrize(("model", "n_findings"), [("nano", 1), ("large", 0)])
def test_samapi_has_no_nano(context: TrialContext, model: str, n_findings: int) -> None:
    found = find_unfit(["qupath"], replace(context, model=model))
    assert len(found) == n_findings
    assert all("tiny, small, base_plus, large alone" in each.what for each in found)


def test_a_missing_library_names_its_extra(context: TrialContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if "onnx" in name else object())
    (found,) = find_unfit(["transformers", "onnx"], context)
    assert str(found) == (
        '--format onnx: needs onnx, onnxscript, onnxruntime, which are not installed -> pip install -e ".[onnx]"'
    )
