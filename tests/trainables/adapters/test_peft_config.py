from trainables.adapters.peft_config import PEFT_KINDS, build_peft_config, describe_config
from trainables.recipe import AdapterRecipe, list_rules


def test_every_kind_of_the_recipe_is_peft_s_or_this_project_s() -> None:
    assert {*PEFT_KINDS, "none", "bottleneck"} == set(list_rules()["adapter.kind"].choices)


def test_rank_and_alpha_arrive_and_no_two_kinds_are_described_alike() -> None:
    recipes = [AdapterRecipe(kind=kind, rank=3, alpha=4.5) for kind in PEFT_KINDS]
    described = [describe_config(build_peft_config(recipe, ["a.b"])) for recipe in recipes]
    assert all(one["r"] == 3 and one.get("lora_alpha", one.get("alpha")) == 4.5 for one in described)
    assert all(one not in described[:position] for position, one in enumerate(described))
