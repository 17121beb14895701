"""Reads the model of a search: its weights, its pathology encoders, and CLIP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.command_line.options import SearchOptions
from search.plan.clip_options import NamingSettings, check_naming
from search.plan.pathology_weights import check_pathology, list_random_encoders
from search.plan.problems import Problems
from search.space.config import SearchConfig
from trainables.errors import Finding
from trainables.model.build import ModelSpec
from trainables.model.weights import find_weights, load_with_notes


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
    """Loads all weights once, so that a file that does not fit is reported before anything starts.

    What could not be read of the space, the model's name and the data's classes is None, and so is the answer where
    anything of the model was reported.
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
