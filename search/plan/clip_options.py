"""Reads and checks the options of CLIP: its weights, its model and the texts of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from search.command_line.options import SearchOptions
from search.command_line.paths import expand_path
from search.errors import ConfigError
from trainables.errors import Finding, collect_findings
from trainables.files.yaml_lines import YamlNode, read_yaml

PROMPT_TEXTS_FILE = "prompt_texts.yaml"

PromptTexts = Mapping[str, tuple[str, ...]]

HOW_TO_GET_WEIGHTS = (
    "naming skipped: it needs CLIP weights; download open_clip_model.safetensors of a model and pass "
    "--clip-weights FILE, or pass a hub id: --clip-weights laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
)
ONE_CLASS = "naming skipped: the data has one class, so there is nothing to tell apart"


def read_prompt_texts(path: Path | None, classes: Sequence[str] | None) -> PromptTexts:
    """Reads a user's file of texts, or of the shipped one, of BCSS's classes, only the classes that the data set has.

    A user's file must have the data set's classes, where they are known; the texts come in their order.

    Raises:
        ConfigError: With every class that is unknown or has no texts, and every entry that is no list of texts.
    """
    if path is not None:
        return _read(path, classes)
    with as_file(files("trainables.clip") / PROMPT_TEXTS_FILE) as shipped:
        texts = _read(shipped, None)
    if classes is None:
        return texts
    if missing := [name for name in classes if name not in texts]:
        what = f"the shipped texts say nothing about {', '.join(missing)}"
        fix = "write a file of texts for your classes (the shipped one shows how) and pass it"
        raise ConfigError.at("--prompt-texts", what, fix)
    return {name: texts[name] for name in classes}


def _read(path: Path, classes: Sequence[str] | None) -> PromptTexts:
    node = read_yaml(path, ConfigError)
    entries = node.read_mapping(classes)
    texts = {name: _read_entry(entry) for name, entry in entries.items()}
    for name in classes or ():
        if name not in texts and isinstance(node.value, dict):
            node.report(f"class {name!r} of the data set has no texts", f"add {name}: [a text, another]")
    node.raise_problems()
    return {name: texts[name] for name in classes or texts}


def _read_entry(entry: YamlNode) -> tuple[str, ...]:
    items = entry.read_list()
    if entry.value == []:
        entry.report("the list is empty", "write at least one text, in quotes")
    return tuple(item.read_text("") for item in items)


@dataclass(frozen=True)
class NamingSettings:
    """What names the masks, with CLIP's texts for each class.

    Attributes:
        clip_model: Name of an open_clip model; None for what comes with the weights, or ViT-B-32.
        clip_weights: A file or folder, absolute, or a hub id.
    """

    clip_model: str | None
    clip_weights: str
    texts: PromptTexts


def check_naming(options: SearchOptions, classes: Sequence[str] | None) -> NamingSettings | str:
    """Reads ``--clip-model``, ``--clip-weights`` and ``--prompt-texts``, and loads the weights once.

    Returns:
        The settings, or the line that says why nothing will be named; empty where nobody asked for names.

    Raises:
        ConfigError: With every finding: an unknown model, weights that are missing or do not fit, bad texts.
    """
    findings: list[Finding] = []
    model, weights, texts_file = options.clip_model, options.clip_weights, options.prompt_texts
    with collect_findings(findings):
        _check_clip(model, weights)
    texts: PromptTexts = {}
    has_one_class = classes is not None and len(classes) < 2
    if texts_file is not None or (weights is not None and not has_one_class):
        with collect_findings(findings):
            texts = read_prompt_texts(None if texts_file is None else expand_path(texts_file), classes)
    if findings:
        raise ConfigError(findings)
    if weights is None:
        return HOW_TO_GET_WEIGHTS if model is not None or texts_file is not None else ""
    if has_one_class:
        return ONE_CLASS
    path = expand_path(weights)  # absolute, as workers run in folders of their own
    return NamingSettings(model, str(path) if path.exists() else weights, texts)


def _check_clip(model: str | None, weights: str | None) -> None:
    """Loads the weights, or only checks the model's name where there are none."""
    if model is None and weights is None:
        return
    import torch

    from trainables.clip.model import check_clip_name, load_clip  # open_clip takes seconds to import

    if weights is not None:
        load_clip(model, weights, torch.device("cpu"))
    elif model is not None:
        check_clip_name(model)
