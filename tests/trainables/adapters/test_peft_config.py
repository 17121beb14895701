import pytest

from trainables.adapters.peft_config import PEFT_KINDS, build_peft_config, describe_config
from trainables.recipe import AdapterRecipe, list_rules


def test_every_kind_of_the_recipe_is_peft_s_or_this_project_s() -> None:
    assert {*PEFT_KINDS, "none", "bottleneck"} == set(list_rules()["adapter.kind"].choices)


@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_rank_and_alpha_arrive_and_no_two_kinds_are_described_alike(kind: str) -> None:
    described = {
        other: describe_config(build_peft_config(AdapterRecipe(kind=other, rank=3, alpha=4.5), ["a.b"]))
        for other in PEFT_KINDS
    }
    mine = described.pop(kind)
    assert mine["r"] == 3 and mine.get("lora_alpha", mine.get("alpha")) == 4.5
    assert mine not in described.values()
