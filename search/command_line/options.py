"""The options of ``search.run``, each described once: its help, its type, and what a resume does with it."""

import argparse
import dataclasses
import shlex
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search.command_line.command_parser import make_command
from search.command_line.numbers import MAX_SEED, make_whole_parser, parse_duration, parse_gpu_share, parse_tiles
from search.command_line.paths import DEFAULT_STORAGE
from search.command_line.presets import PRESETS, Preset, describe_presets

# First field of each group of the help text -> its heading.
_GROUPS = {
    "set": "what is searched",
    "warm_start": "what came before",
    "data": "data and model",
    "clip_weights": "naming",
    "preset": "effort",
    "gpus_per_trial": "where",
}
_NAMING_NOTE = "CLIP names the masks of zero-shot SAM2; only with --clip-weights"
SplitKind = Literal["auto", "declared", "bcss", "random"]


def _option(
    help: str,
    default: Any = None,
    *,
    on_resume: Literal["fixed", "moved", "free", "new"] = "fixed",
    is_path: bool = False,
    **settings: Any,
) -> Any:
    """Describes one option.

    Args:
        help: Its help text.
        default: Its value where it is not given.
        on_resume: Whether a resume keeps the recorded value (``fixed``), takes another place of the same content
            (``moved``), may replace it (``free``), or finds none recorded (``new``).
        is_path: Whether it may name a file, which is recorded as an absolute path.
        **settings: Further arguments of ``add_argument``.
    """
    metadata = {"on_resume": on_resume, "is_path": is_path, "argparse": {"help": help, **settings}}
    return dataclasses.field(default=default, metadata=metadata)


_COUNT: dict[str, Any] = {"type": make_whole_parser(1), "metavar": "N"}
_FLAG: dict[str, Any] = {"default": False, "action": "store_true"}


@dataclass(frozen=True)
class SearchOptions:
    """What ``search.run`` and ``search.check`` are asked for; the help texts below describe the fields."""

    space: str = _option("a shipped space (lora.yaml) or a file of your own", "", on_resume="free")
    resume: str | None = _option(
        "go on with a search that stopped: its name below --storage, its folder, or last; a larger --num-trials adds "
        "trials",
        on_resume="new",
        metavar="RUN",
    )
    set: tuple[str, ...] = _option(
        "change a key of the space, named by its path with dots; a recipe field may stand alone: optim.lr.high=3e-3 "
        "widens or narrows its range, optim.lr=1e-3 fixes it; KEY=null removes a key; may be repeated",
        (),
        action="append",
        metavar="KEY=VALUE",
    )
    warm_start: tuple[str, ...] = _option(
        "earlier searches to learn from: from their ended trials where space, protocol, data, model and epochs are the "
        "same, else their best configurations are tried first",
        (),
        action="extend",
        nargs="+",
        metavar="RUN",
    )
    retry_failed: bool = _option(
        "with --resume: try the trials that failed again, each as a new trial", on_resume="new", **_FLAG
    )
    data: str | None = _option(
        "folder with images/, masks/, perhaps dataset.yaml", on_resume="moved", is_path=True, metavar="DIR"
    )
    split: SplitKind = _option(
        "auto: the declared one, else bcss for TCGA names, else drawn by --seed, stratified by class",
        "auto",
        choices=typing.get_args(SplitKind),
    )
    folds: int | None = _option(
        "cross-validate by patient over train and val in place of the one split; K times the work",
        **_COUNT | {"metavar": "K"},
    )
    allow_leak: bool = _option("go on where parts share patients or pixels, and mark every result with it", **_FLAG)
    model: str = _option("nano (default), tiny, small, base_plus or large", "nano")
    checkpoint: str | None = _option(
        "weights of the model, or a hub id", on_resume="moved", is_path=True, metavar="FILE"
    )
    pathology_weights: tuple[str, ...] = _option(
        "weights of a pathology encoder that the space fuses with SAM2's, or a hub id; may be repeated; without them "
        "it has random weights",
        (),
        on_resume="moved",
        action="append",
        metavar="NAME=FILE",
    )
    protocol: str | None = _option("evaluation protocol; the space's own by default")
    tiles: str | None = _option(
        "cut regions into tiles of so many pixels at so many um a pixel (their own pixels without), which share at "
        "least a part of their side with their neighbors (0.25); a part of the protocol; the space's own by default",
        type=parse_tiles,
        metavar="PX[,UM[,OVERLAP]]",
    )
    clip_weights: str | None = _option(
        "weights of an open_clip model: a file, a folder with open_clip_config.json, or a hub id",
        on_resume="moved",
        is_path=True,
        metavar="FILE_OR_HUB_ID",
    )
    clip_model: str | None = _option(
        "which open_clip model; default: what comes with the weights, or ViT-B-32", metavar="NAME"
    )
    prompt_texts: str | None = _option(
        "YAML, class name to texts; shipped for BCSS's five classes", on_resume="moved", is_path=True, metavar="FILE"
    )
    preset: Preset | None = _option(
        f"the four below in one word; any of them may stand beside it and wins; {describe_presets()}",
        choices=typing.get_args(Preset),
    )
    num_trials: int | None = _option(
        "trials (default: the space's own; on a resume those that the search has)", on_resume="free", **_COUNT
    )
    max_epochs: int | None = _option("epochs of a whole trial", **_COUNT)
    confirm: int = _option(
        "train the best K configurations again, a starting point among them, before the test; 0 for none (default: 3)",
        3,
        type=make_whole_parser(0),
        metavar="K",
    )
    confirm_seeds: int = _option("with up to N new seeds each, fewer once one cannot win (default: 3)", 3, **_COUNT)
    time_budget: float | None = _option(
        "of the search's trials, like 90s, 15m, 2h; a resume counts anew",
        on_resume="free",
        type=parse_duration,
        metavar="T",
    )
    seed: int = _option("of everything left to chance (default: 0)", 0, type=make_whole_parser(0, MAX_SEED))
    gpus_per_trial: float | Literal["auto"] | None = _option(
        "fractions too (default: 1, or 0 without GPUs; on a resume what the search had); auto: as many trials share a "
        "GPU as fit, by a measured step of the largest recipe",
        on_resume="free",
        type=parse_gpu_share,
        metavar="G",
    )
    max_concurrent: int | None = _option("trials at once", on_resume="free", **_COUNT)
    address: str | None = _option("of a Ray cluster to join, such as auto or ray://host:10001", on_resume="free")
    storage: str = _option(
        "folder of all searches (default: runs), which all nodes of a cluster share; or a URL such as "
        "s3://bucket/searches for the checkpoints, all else then in runs",
        DEFAULT_STORAGE,
        on_resume="new",
    )
    name: str | None = _option("of this search and its folder; default: space and time")
    experiment: str | None = _option("of MLflow; the space's name by default")
    on_end: str | None = _option(
        "run this shell command when a search that began has finished, failed or been interrupted; SAM2_SEARCH_STATE, "
        "SAM2_SEARCH_RUN and others in its environment say how it ended; a resume does not remember it",
        on_resume="new",
        metavar="CMD",
    )
    dry_run: bool = _option(
        "print the resolved space, ten of its trials, and what the search would cost, measured on two training steps; "
        "start no trial",
        on_resume="new",
        **_FLAG,
    )
    json: bool = _option(
        "print summary.json as the last line; search.check prints its findings and warnings as one line of JSON",
        on_resume="new",
        **_FLAG,
    )


FIELDS = {field.name: field for field in dataclasses.fields(SearchOptions)}


EXAMPLES = {
    "--space lora.yaml": "a demo, in five to twelve minutes on two CPU cores",
    "--space lora.yaml --data data --model large --checkpoint sam2.1_hiera_large.pt --dry-run": "what a search "
    "would do and cost, before it starts; the same line without --dry-run starts it",
    "--space lora.yaml --set optim.lr.high=3e-3 --set sampler.kind=gp": "a range and the sampler are others",
    "--space lora.yaml --set adapter.rank=8": "this parameter is fixed, all others are searched",
    "--resume last": "goes on with the search that stopped last",
}
DESCRIPTION = (
    "Searches LoRA fine-tunes of SAM2 for one that beats zero-shot. Without --data it runs "
    "on built-in synthetic tissue, without --model on the shipped 2.5 M-parameter nano: a demo."
)


def make_parser(
    command: str = "run", description: str = DESCRIPTION, examples: Mapping[str, str] = EXAMPLES
) -> argparse.ArgumentParser:
    """Returns the command line's parser of ``search.run``, or of another command with the same options."""
    parser = make_command(command, description, examples)
    group: argparse._ActionsContainer = parser.add_mutually_exclusive_group(required=True)
    for name in FIELDS:
        if title := _GROUPS.get(name):
            group = parser.add_argument_group(title, _NAMING_NOTE if title == "naming" else None)
        _add_option(group, name)
    return parser


def make_resume_parser() -> argparse.ArgumentParser:
    """Returns the parser of the verb ``resume``: the search, and what may differ from its beginning."""
    parser = make_command(
        "resume",
        "Goes on with a search that stopped, or adds trials to one that has finished. No finished epoch is repeated.",
        {
            "": "goes on with the search that was begun or resumed last",
            "NAME --num-trials 40": "adds trials until there are 40",
            "NAME --data /new/place": "the data has moved",
        },
    )
    parser.add_argument("resume", nargs="?", default="last", metavar="RUN", help="its name, its folder, or last")
    for name, field in FIELDS.items():
        if field.metadata["on_resume"] != "fixed" and name not in ("space", "resume", "dry_run"):
            _add_option(parser, name)
    return parser


def parse_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> SearchOptions:
    """Parses a command line, or that of this process where ``argv`` is None."""
    values: dict[str, Any] = vars(parser.parse_args(argv))
    if values.get("preset") and not values["resume"]:
        parser.set_defaults(**PRESETS[values["preset"]])
        values = vars(parser.parse_args(argv))
    tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return SearchOptions(**values | tuples)


def add_run_options(parser: argparse.ArgumentParser, reads_data: bool = True) -> None:
    """Adds ``--run`` and ``--storage``, which name a search, and what of its inputs may have been moved."""
    parser.add_argument("--run", required=True, help="name of a search below --storage, its folder, or last")
    _add_option(parser, "storage")
    if reads_data:
        group = parser.add_argument_group("what has been moved since the search, with the same content")
        for name in ("data", "checkpoint", "pathology_weights"):
            _add_option(group, name)


def _add_option(parser: argparse._ActionsContainer, name: str) -> None:
    field = FIELDS[name]
    default = list(field.default) if isinstance(field.default, tuple) else field.default  # argparse appends to a list
    parser.add_argument(dash(name), default=default, **field.metadata["argparse"])


def compose_words(values: Mapping[str, Any]) -> list[str]:
    """Returns the words of a command line that give fields these values; what is False or None is left out."""
    words = []
    for name, value in values.items():
        given = value if isinstance(value, (tuple, list)) else () if value is None or value is False else (value,)
        for each in given:
            if each is True:
                words.append(dash(name))
            else:  # joined where it could be taken for an option
                words += [f"{dash(name)}={each}"] if str(each).startswith("-") else [dash(name), str(each)]
    return words


def compose_command(module: str, options: SearchOptions) -> str:
    """Returns the command line of ``search.run`` or ``search.check`` with the same options, for a search of no name."""
    # What a preset sets is among the other options.
    left_out = ("name", "resume", "retry_failed", "dry_run", "json", "preset")
    values = {name: getattr(options, name) for name in FIELDS if name not in left_out}
    changed = {name: value for name, value in values.items() if value != FIELDS[name].default}
    return shlex.join(["python", "-m", module, *compose_words(changed)])


def dash(name: str) -> str:
    """Returns a field's option: ``--max-epochs`` for ``max_epochs``."""
    return f"--{name.replace('_', '-')}"
