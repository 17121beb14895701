"""The files of the recorded experiments say what the log says, and what they train trains as it says."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch

from search.run_folder.protocol_table import PROTOCOLS_DIFFER
from search.space.config import SearchConfig, find_space, list_spaces, load_config
from search.space.recorded_experiments import RECORDED_EXPERIMENTS, RecordedExperiment
from search.space.recorded_points import RecordedSpace, list_recorded
from trainables.adapters.adapted_model import attach_adapters, count_parameters, get_base
from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.model.build import MODELS, build_architecture
from trainables.protocol.fields import change_protocol
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe
from trainables.training.fine_tune import FineTune
from trainables.training.schedule import build_schedule

N_BCSS = 85
LOGGED = {one.name: one for one in RECORDED_EXPERIMENTS}
FILES = {one.name: one for one in list_recorded()}
TRAINED = [one.name for one in list_recorded() if one.train]


def load(name: str) -> SearchConfig:
    return load_config(find_space(f"recorded/{name}.yaml"))


def test_every_experiment_of_the_log_has_its_file_and_no_file_is_without_one() -> None:
    assert {f"recorded/{name}.yaml" for name in LOGGED} == {s for s in list_spaces() if s.startswith("recorded/")}
    assert set(TRAINED) == set(LOGGED) - {"zeroshot", "tta", "prompts"}


# What the log calls a figure, and where it stands in a space file.
READERS: Mapping[str, Callable[[Recipe, RecordedSpace], object]] = {
    "lr": lambda recipe, _: recipe.optim.lr,
    "lr_min": lambda recipe, _: recipe.optim.lr * recipe.optim.lr_end_fraction,
    "lr_warmup_steps": lambda recipe, _: recipe.optim.warmup_steps,
    "lr_warmup_epochs": lambda recipe, _: recipe.optim.warmup_epochs,
    "lr_warmup_share": lambda recipe, _: recipe.optim.warmup_fraction,
    "epochs": lambda _, space: space.max_epochs,
    "batch_size": lambda recipe, _: recipe.optim.batch_size,
    "weight_decay": lambda recipe, _: recipe.optim.weight_decay,
    "gradient_clip": lambda recipe, _: recipe.optim.grad_clip,
    "color_jitter": lambda recipe, _: recipe.augment.strength,
    "hue_jitter": lambda recipe, _: recipe.augment.hue,
    "rotation_degrees": lambda recipe, _: recipe.augment.rotation_degrees,
    "max_objects_per_image": lambda recipe, _: recipe.prompts.max_objects,
    "focal_gamma": lambda recipe, _: recipe.loss.focal_gamma,
    "rank": lambda recipe, _: recipe.adapter.rank,
    "alpha": lambda recipe, _: recipe.adapter.alpha,
    "dropout": lambda recipe, _: recipe.adapter.dropout,
    "loss_mask_dice_iou_class": lambda recipe, _: ":".join(
        f"{weight:g}" for weight in (recipe.loss.focal, recipe.loss.dice, recipe.loss.iou, recipe.loss.objectness)
    ),
    "n_negative_points": lambda recipe, _: {"half": 5}[recipe.prompts.mix],
}


@pytest.mark.parametrize("name", TRAINED)
def test_the_files_say_what_the_log_says(name: str) -> None:
    recipe = Recipe.from_flat(FILES[name].fixed)
    for key, value in LOGGED[name].parameters.items():
        found = READERS[key](recipe, FILES[name])
        assert found == (pytest.approx(value) if isinstance(value, float) else value), key


@pytest.mark.parametrize("one", RECORDED_EXPERIMENTS, ids=lambda one: one.name)
def test_they_are_scored_as_they_were_and_as_the_bar_where_the_log_is_silent(one: RecordedExperiment) -> None:
    assert load(one.name).protocol == ("recorded" if one.protocol == "unknown" else one.protocol)


@pytest.mark.parametrize("name", TRAINED)
def test_a_replay_is_one_trial_that_bears_the_experiments_name(name: str) -> None:
    config = load(name)
    assert config.is_replay and config.num_trials == 1 and not config.space
    assert [point.name for point in config.start_from] == [config.name] == [f"recorded/{name}"]


def list_lrs(name: str) -> list[float]:
    """The learning rate of every step of a recorded run on BCSS."""
    config, recipe = load(name), Recipe.from_flat(load(name).fixed)
    n_steps = config.max_epochs * math.ceil(N_BCSS / recipe.optim.batch_size)
    schedule = build_schedule(recipe.optim, n_steps, config.max_epochs)
    return [schedule.compute_lr(step) for step in range(n_steps)]


@pytest.mark.parametrize(
    ("name", "n_steps", "n_warmup", "peak", "end"),
    [
        ("v1", 2250, 0, 2e-5, 2e-6),
        ("v2", 1500, 175, 6e-5, 6e-6),
        ("v3", 600, 250, 8e-5, 8e-6),
        ("lora-light", 660, 165, 5e-6, 5e-7),  # a quarter of all steps
        ("box-focal", 750, 175, 3e-5, 3e-6),
        ("lora-r8", 440, 44, 1e-4, 1e-6),  # 2 epochs of 22 steps
    ],
)
def test_learning_rate_curves_are_as_recorded(name: str, n_steps: int, n_warmup: int, peak: float, end: float) -> None:
    lrs = list_lrs(name)
    assert len(lrs) == n_steps and max(lrs) == pytest.approx(peak) and lrs[-1] == pytest.approx(end)
    assert lrs[:n_warmup] == pytest.approx([peak * (step + 1) / n_warmup for step in range(n_warmup)])
    rest = lrs[n_warmup:]
    assert rest == sorted(rest, reverse=True) and rest[0] == pytest.approx(peak)
    middle = rest[(len(rest) - 1) // 2 : len(rest) // 2 + 1]
    assert sum(middle) / len(middle) == pytest.approx((peak + end) / 2, rel=1e-3)  # a cosine is half-way there


@pytest.fixture(scope="module")
def base_state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_architecture(MODELS["nano"]).state_dict()


def list_trained(name: str, weight: str) -> bool:
    """Whether a recorded experiment trained a weight, by the weight's name in the model."""
    if name == "lora-r8":
        heads = ("output_hypernetworks_mlps", "iou_prediction_head", "pred_obj_score_head")
        return "lora_" in weight or any(head in weight for head in heads)
    if name == "path-sam2" and weight.startswith("pathology_fusion."):
        return not weight.startswith("pathology_fusion.encoder.")  # CTransPath stays frozen
    return weight.startswith("sam_mask_decoder.")


@pytest.mark.parametrize("name", TRAINED)
def test_an_epoch_on_tissue_changes_what_was_trained_and_nothing_else(
    name: str, small_store: RegionStore, base_state: dict[str, torch.Tensor]
) -> None:
    config, fold = load(name), Fold(small_store.names[:3], ())
    protocol = PROTOCOLS[config.protocol]
    context = TrialContext("nano", None, str(small_store.folder), fold.train, (), protocol, 1, 0, {}, 0)
    recipe = Recipe.from_flat(config.fixed)
    fit = FineTune(context, fold, base_state, recipe, torch.device("cpu"))
    weights = dict(get_base(fit.state.adapted).named_parameters())
    before = {weight: value.detach().clone() for weight, value in weights.items()}
    assert all(value.requires_grad == list_trained(name, weight) for weight, value in weights.items())
    assert fit.n_trained == sum(value.numel() for value in weights.values() if value.requires_grad)
    report = fit.train_epoch(0)
    assert fit.state.step == math.ceil(3 / recipe.optim.batch_size) and math.isfinite(report.losses["total"])
    changed = {weight for weight, value in weights.items() if not torch.equal(value, before[weight])}
    assert changed and all(list_trained(name, weight) for weight in changed)


def test_parameter_counts_differ_as_the_recipes_say(base_state: dict[str, torch.Tensor]) -> None:
    counts = {}
    for name in ("v2", "lora-light", "lora-r8"):
        adapted = attach_adapters(build_architecture(MODELS["nano"]), Recipe.from_flat(FILES[name].fixed).adapter, 0)
        counts[name] = count_parameters(adapted)[0]
    decoder = sum(v.numel() for k, v in base_state.items() if k.startswith("sam_mask_decoder."))
    assert counts["v2"] == counts["lora-light"] == decoder
    assert counts["lora-r8"] < decoder


@pytest.mark.parametrize("name", ["zeroshot", "tta", "prompts"])
def test_what_trains_nothing_changes_the_protocol_alone(name: str) -> None:
    config = load(name)
    assert not config.train and config.max_epochs == 0 and config.num_trials == len(config.start_from)
    protocols = [change_protocol(PROTOCOLS[config.protocol], point.values) for point in config.start_from]
    assert len({one.id for one in protocols}) == len(protocols)
    # The bar's own protocol is among them, by its name.
    assert "recorded" in {one.name for one in protocols}
    assert "do not rank" in PROTOCOLS_DIFFER
