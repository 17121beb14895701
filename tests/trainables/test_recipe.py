import json
import math

import pytest

from trainables.errors import Finding
from trainables.recipe import (
    DROPPABLE_KINDS,
    FieldRule,
    Recipe,
    RecipeError,
    Scalar,
    check_value,
    find_conflicts,
    list_rules,
)

DEFAULTS = Recipe().to_flat()


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_each_default_keeps_its_own_rule_which_has_a_line_of_help(name: str) -> None:
    rules = list_rules()
    assert set(DEFAULTS) == set(rules) and rules[name].help
    assert check_value(name, DEFAULTS[name]) is None and type(DEFAULTS[name]) is rules[name].kind


@pytest.mark.parametrize("name", sorted(name for name, rule in list_rules().items() if rule.low is not None))
def test_both_limits_are_inclusive(name: str) -> None:
    rule = list_rules()[name]
    assert rule.low is not None and rule.high is not None
    step = 1 if rule.kind is int else 1e-9 + 1e-6 * rule.high
    assert check_value(name, rule.kind(rule.low)) is None and check_value(name, rule.kind(rule.high)) is None
    for value, word in ((rule.low - step, "at least"), (rule.high + step, "at most")):
        finding = check_value(name, rule.kind(value))
        assert finding is not None and f"{name} must be {word}" in finding.what and finding.fix == rule.help


@pytest.mark.parametrize("name", sorted(name for name, rule in list_rules().items() if rule.choices))
def test_each_choice_is_accepted_and_no_other_word(name: str) -> None:
    choices = list_rules()[name].choices
    assert all(check_value(name, choice) is None for choice in choices)
    finding = check_value(name, "nonsense")
    assert finding is not None and choices[-1] in finding.what and "'nonsense'" in finding.what


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adapter.rank", [True, 8.0, "8"]),
        ("optim.lr", [True, "1e-3", None, math.nan]),
        ("loss.focal", [math.inf]),
        ("adapter.train_heads", [1]),
        ("adapter.targets", [True]),
    ],
)
def test_values_of_another_kind_are_refused(name: str, values: list[object]) -> None:
    for value in values:
        finding = check_value(name, value)
        assert finding is not None and repr(value) in finding.what


def test_what_is_not_named_keeps_its_default_also_through_json() -> None:
    changed: dict[str, Scalar] = {
        **{"adapter.rank": 4, "adapter.train_heads": False, "augment.kind": "none", "optim.lr": 3e-4},
        **{"adapter.alpha": 16, "prompts.mix": "mixed", "prompts.max_objects": 2, "fusion.encoder": "any words"},
    }
    recipe = Recipe.from_flat(changed)
    assert recipe.to_flat() == {**DEFAULTS, **changed}
    assert isinstance(recipe.adapter.alpha, float)  # a whole number serves as a fraction
    assert Recipe.from_flat(json.loads(json.dumps(recipe.to_flat()))) == recipe
    assert Recipe.from_flat({}) == Recipe()


def test_all_findings_are_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_flat({"adapter.rnak": 4, "optim.lr": -1.0, "adapter.rank": 0, "loss.dice": 1.0})
    assert [finding.where for finding in caught.value.findings] == ["adapter.rnak", "optim.lr", "adapter.rank"]
    assert caught.value.findings[0].fix == "did you mean 'adapter.rank'?"
    finding = check_value("protocol.size", 2, {"protocol.size": FieldRule(int, "an odd side", 3, 9)})  # other rules
    assert finding == Finding("protocol.size", "protocol.size must be at least 3, but got 2", "an odd side")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"optim.warmup_steps": 175, "optim.warmup_epochs": 2.0}, "warmup_steps (175), optim.warmup_epochs (2)"),
        ({"optim.warmup_steps": 175, "optim.warmup_fraction": 0.25}, "fraction (0.25), optim.warmup_steps (175)"),
        ({"optim.warmup_epochs": 0.5, "optim.warmup_fraction": 0.2}, "warmup_epochs (0.5)"),
    ],
)
def test_a_warm_up_given_twice_is_refused(values: dict[str, Scalar], named: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_flat(values)
    (finding,) = caught.value.findings
    assert named in finding.what and "given 2 times" in finding.what and "keep one" in finding.fix


@pytest.mark.parametrize(
    "values",
    [
        {"optim.warmup_steps": 175},
        {"optim.warmup_epochs": 2.0},
        {"optim.warmup_fraction": 0.25},
        {"optim.warmup_steps": 175, "optim.warmup_fraction": 0.0, "optim.warmup_epochs": 0.0},
    ],
)
def test_a_warm_up_given_once_survives_writing_and_reading(values: dict[str, Scalar]) -> None:
    recipe = Recipe.from_flat(values)
    assert Recipe.from_flat(recipe.to_flat()) == recipe and find_conflicts(recipe) == []


def test_class_prompts_have_no_zero_shot_masks_to_keep_to() -> None:
    assert Recipe.from_flat({"class_prompts.tokens": 2, "regularise.l2_start": 0.1}).class_prompts.tokens == 2
    with pytest.raises(RecipeError, match="zero-shot masks"):
        Recipe.from_flat({"class_prompts.tokens": 2, "regularise.distill": 0.1})


@pytest.mark.parametrize("kind", list_rules()["adapter.kind"].choices)
def test_only_updates_with_a_scale_can_be_dropped(kind: str) -> None:
    values: dict[str, Scalar] = {"adapter.kind": kind, "regularise.drop": 0.5}
    if kind in DROPPABLE_KINDS:
        assert Recipe.from_flat(values).regularise.drop == 0.5
    else:
        with pytest.raises(RecipeError, match=f"adapter.kind is {kind}"):
            Recipe.from_flat(values)
    assert find_conflicts(Recipe.from_flat({"adapter.kind": kind})) == []


@pytest.mark.parametrize(
    "what",
    [
        {"adapter.kind": "lora"},
        {"adapter.train_heads": True},
        {"adapter.train_encoder": True},
        {"fusion.kind": "concat"},
        {"class_prompts.tokens": 1},
    ],
)
def test_something_must_be_trained(what: dict[str, Scalar]) -> None:
    nothing: dict[str, Scalar] = {"adapter.kind": "none", "adapter.train_heads": False}
    with pytest.raises(RecipeError, match="nothing is trained"):
        Recipe.from_flat(nothing)
    assert find_conflicts(Recipe.from_flat({**nothing, **what})) == []
