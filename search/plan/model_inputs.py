"""Reads the model of a search: its weights, its pathology encoders, and CLIP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.command_line.options import SearchOptions
from search.errors import ConfigError
from search.plan.clip_options import NamingSettings, check_naming
from search.plan.problems import Problems
from search.space.config import SearchConfig
from search.space.parameters import Choice
from trainables.errors import Finding, collect_findings
from trainables.model.build import ModelSpec
from trainables.model.weights import find_weights, load_with_notes
from trainables.recipe import FusionRecipe, Scalar

OPTION = "--pathology-weights"
KIND, ENCODER = "fusion.kind", "fusion.encoder"


@dataclass(frozen=True)
class ModelInputs:
    """What is fine-tuned, and what works beside it.

    Attributes:
        checkpoint: File of its weights; None for nano's own.
        is_demo: Whether it is the shipped model, whose numbers say nothing about SAM2 as published.
        pathology_weights: Name of a pathology encoder -> file of its weights; without those that have random ones.
        naming: What names the zero-shot masks, or the line that says why nothing does.
        caveats: What every artifact must say: encoders that have learned nothing.
    """

    name: str
    checkpoint: str | None
    is_demo: bool
    pathology_weights: Mapping[str, str]
    naming: NamingSettings | str
    caveats: tuple[str, ...]


def read_model(
    options: SearchOptions,
    config: SearchConfig | None,
    spec: ModelSpec | None,
    classes: Sequence[str] | None,
    problems: Problems,
) -> ModelInputs | None:
    """Loads all weights once, so that what does not fit is reported before anything starts; then it returns None.

    Args:
        config: The space; None where it cannot be read.
        spec: The model; None where its name is unknown.
        classes: Names of the data set's classes, in its order; None where the data cannot be read.
    """
    checkpoint = problems.collect(_check_weights, spec, options.checkpoint, problems) if spec else None
    weights = (
        problems.collect(check_pathology, config, options.pathology_weights, problems.warnings) if config else None
    )
    naming = problems.collect(check_naming, options, classes)
    if config is None or spec is None or checkpoint is None or weights is None or naming is None:
        return None
    caveats = list_random_encoders(config, weights)
    return ModelInputs(spec.name, checkpoint or None, spec.is_demo, weights, naming, caveats)


def _check_weights(spec: ModelSpec, checkpoint: str | None, problems: Problems) -> str:
    """Loads the weights, and warns where they had to be searched for; returns their file, empty for the model's own."""
    path = find_weights(spec, checkpoint)
    if notes := load_with_notes(spec, path)[1]:
        problems.warnings.append(Finding(str(path), "; ".join(notes), "check that these are the weights you mean"))
    return "" if checkpoint is None else str(path)


def check_pathology(config: SearchConfig, given: Sequence[str], warnings: list[Finding]) -> dict[str, str]:
    """Builds every encoder of a search once, with weights given as ``NAME=FILE`` or ``NAME=HUB_ID``.

    Returns:
        The encoder's name -> its weights' file, absolute; without those that have random weights.

    Raises:
        ConfigError: With every encoder and every file that cannot be loaded, and weights that no trial would use.
    """
    encoders, findings = list_encoders(config), list[Finding]()
    weights: dict[str, str] = {}
    for text in given:
        name, _, file = text.partition("=")
        where = f"{OPTION} {text}"
        if not (name and file):
            findings.append(Finding(where, "must be NAME=FILE or NAME=HUB_ID", f"such as {OPTION} ctranspath=FILE"))
        elif name in weights:
            findings.append(Finding(where, f"weights of {name} are given twice", "keep one of them"))
        elif name not in encoders:
            uses = f"it uses {', '.join(encoders)}" if encoders else "it fuses nothing"
            findings.append(Finding(where, f"has no effect on this search: {uses}", "leave it out"))
        else:
            weights[name] = file
    for name in encoders:
        with collect_findings(findings):
            weights |= _try_encoder(name, weights.get(name), warnings)
    if findings:
        raise ConfigError(findings)
    return weights


def list_encoders(config: SearchConfig) -> list[str]:
    """Returns the names of the encoders that a trial may use, in their order in the space."""
    if not config.train or set(_list_values(config, KIND, FusionRecipe.kind)) == {"none"}:
        return []
    return [str(name) for name in _list_values(config, ENCODER, FusionRecipe.encoder)]


def list_random_encoders(config: SearchConfig, weights: Mapping[str, str]) -> tuple[str, ...]:
    """Returns what every artifact must say of encoders that have learned nothing."""
    return tuple(
        f"pathology encoder {name} has random weights (none were given by {OPTION} {name}=FILE): it has seen no tissue"
        for name in list_encoders(config)
        if name not in weights
    )


def _list_values(config: SearchConfig, name: str, default: Scalar) -> list[Scalar]:
    """Returns the values that a field of the recipe may have."""
    searched = config.space.get(name)
    return list(searched.values) if isinstance(searched, Choice) else [config.fixed.get(name, default)]


def _try_encoder(name: str, weights: str | None, warnings: list[Finding]) -> dict[str, str]:
    from trainables.model.pathology_encoder import find_encoder_weights, load_encoder

    file = None if weights is None else str(find_encoder_weights(name, weights))
    notes: list[str] = []
    load_encoder(name, file, notes=notes)
    if notes:
        warnings.append(Finding(str(file), "; ".join(notes), "check that these are the weights you mean"))
    return {} if file is None else {name: file}
