import copy
import math

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from trainables.adapters.interpolation import interpolate_adapter, interpolate_weights
from trainables.adapters.scales import check_scale
from trainables.errors import InputError, TrainablesError

State = dict[str, Tensor]
KINDS: dict[str, PeftConfig] = {
    "lora": LoraConfig(r=2, lora_alpha=6, target_modules=["first", "second"]),
    "rslora": LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["first", "second"]),
    "dora": LoraConfig(r=2, lora_alpha=6, use_dora=True, target_modules=["first", "second"]),
    "rsdora": LoraConfig(r=2, use_dora=True, use_rslora=True, target_modules=["first", "second"]),
    "pissa": LoraConfig(r=2, lora_alpha=6, init_lora_weights="pissa", target_modules=["first", "second"]),
    "rspissa": LoraConfig(r=2, use_rslora=True, init_lora_weights="pissa", target_modules=["first", "second"]),
    "loha": LoHaConfig(r=2, alpha=6, target_modules=["first", "second"]),
    "lokr": LoKrConfig(r=2, alpha=6, target_modules=["first", "second"]),
    "lokr, both in two": LoKrConfig(r=1, alpha=2, decompose_both=True, target_modules=["first", "second"]),
}


class Chain(nn.Module):
    """Two layers that adapters sit on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 18)
        self.second = nn.Linear(18, 20, bias=False)


def make_states() -> tuple[State, State]:
    """A base and a tuned state: changed floats, an unchanged buffer, a step counter."""
    generator = torch.Generator().manual_seed(0)
    base = {
        "weight": torch.randn(4, 3, generator=generator) * 1e3,
        "buffer": torch.tensor([math.inf, -0.0, 1.0]),
        "steps": torch.tensor([3]),
    }
    tuned = {**{name: value.clone() for name, value in base.items()}, "weight": torch.randn(4, 3, generator=generator)}
    return base, tuned


def same_bits(left: State, right: State) -> bool:
    return set(left) == set(right) and all(
        left[name].dtype == right[name].dtype and left[name].numpy().tobytes() == right[name].numpy().tobytes()
        for name in left
    )


def test_both_ends_are_met_bit_for_bit() -> None:
    base, tuned = make_states()
    assert same_bits(interpolate_weights(base, tuned, 0.0), base)
    assert same_bits(interpolate_weights(base, tuned, 1.0), tuned)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 1.25])
def test_floats_move_along_the_line_and_all_else_stays(scale: float) -> None:
    base, tuned = make_states()
    found = interpolate_weights(base, tuned, scale)
    line = base["weight"].double() + scale * (tuned["weight"].double() - base["weight"].double())
    torch.testing.assert_close(found["weight"].double(), line, rtol=1e-6, atol=1e-4)
    still = ("buffer", "steps")
    assert same_bits({name: found[name] for name in still}, {name: base[name] for name in still})


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_arguments_are_neither_changed_nor_handed_on(scale: float) -> None:
    base, tuned = make_states()
    found = interpolate_weights(base, tuned, scale)
    for value in found.values():
        value.zero_()
    assert same_bits(base, make_states()[0]) and same_bits(tuned, make_states()[1])


@pytest.mark.parametrize("scale", [-0.01, 2.01, 1e300, math.inf, math.nan])
def test_what_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(InputError, match="0 <= scale"):
        check_scale(scale)
    with pytest.raises(InputError, match="0 <= scale"):
        interpolate_weights({}, {}, scale)


def train_adapter(config: PeftConfig) -> tuple[State, State, State, State]:
    """States of a base, of an adapter before and after it was disturbed, and of the merged model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bare = Chain()
        base = copy.deepcopy(bare.state_dict())
        adapted = get_peft_model(bare, copy.deepcopy(config))  # type: ignore[arg-type]
        initial = {name: value.clone() for name, value in get_peft_model_state_dict(adapted).items()}
        state = {name: value + 0.1 * torch.randn_like(value) for name, value in initial.items()}
    set_peft_model_state_dict(adapted, state)
    return base, initial, state, adapted.merge_and_unload().state_dict()


def apply_adapter(base: State, state: State, config: PeftConfig) -> State:
    """What PEFT makes of a base with a saved adapter."""
    bare = Chain()
    bare.load_state_dict(base)
    adapted = get_peft_model(bare, copy.deepcopy(config))  # type: ignore[arg-type]
    missing = set_peft_model_state_dict(adapted, state)
    assert not missing.unexpected_keys
    return dict(adapted.merge_and_unload().state_dict())


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.25])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interpolated_adapter_gives_the_interpolated_weights(kind: str, scale: float) -> None:
    base, initial, state, tuned = train_adapter(KINDS[kind])
    assert (tuned["first.weight"] - base["first.weight"]).abs().max() > 0.01
    before = copy.deepcopy(state)
    scaled, config = interpolate_adapter(state, KINDS[kind], base, tuned, scale, initial)
    assert config is not None and same_bits(state, before)
    found = apply_adapter(base, scaled, config)
    wanted = interpolate_weights(base, tuned, scale)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-5)


def test_at_scale_1_an_adapter_stays_as_it_is_and_else_pissa_needs_its_state_before_training() -> None:
    base, _, state, tuned = train_adapter(KINDS["pissa"])
    scaled, config = interpolate_adapter(state, KINDS["pissa"], base, tuned, 1.0)
    assert same_bits(scaled, state) and config is not None and config.to_dict() == KINDS["pissa"].to_dict()
    with pytest.raises(ValueError, match="before training"):
        interpolate_adapter(state, KINDS["pissa"], base, tuned, 0.5)


def test_an_unknown_factor_and_an_adapter_that_lacks_what_was_trained_are_refused() -> None:
    base, _, state, tuned = train_adapter(KINDS["lora"])
    odd = {**state, "base_model.model.first.vera_lambda_d": torch.zeros(2)}
    with pytest.raises(TrainablesError, match=r"vera_lambda_d cannot be scaled"):
        interpolate_adapter(odd, KINDS["lora"], base, tuned, 0.5)
    less = {name: value for name, value in state.items() if "second" not in name}
    with pytest.raises(TrainablesError, match=r"does not hold \(first: second.weight\)"):
        interpolate_adapter(less, KINDS["lora"], base, tuned, 0.5)
