"""The options of ``search.run``, and options that several commands share."""

from __future__ import annotations

import argparse
import math
import re

from search.command_line.paths import DEFAULT_STORAGE

MAX_COUNT = 1_000_000  # of trials, epochs and the like; more is a slip of the hand


def format_seconds(seconds: float) -> str:
    """Returns ``45 s``, ``2 min 10 s`` or ``3 h 5 min``."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def parse_duration(text: str) -> float:
    """Reads ``90``, ``90s``, ``15m`` or ``2h`` as seconds.

    Raises:
        argparse.ArgumentTypeError: If it is none of these, or not above 0.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds, or like 90s, 15m, 2h, but got {_shorten(text)}")
    return seconds


def _at_least_one(text: str) -> int:
    if not 1 <= (number := _read_digits(text)) <= MAX_COUNT:
        rule = f"must be a whole number of at least 1 and at most {MAX_COUNT:,}"
        raise argparse.ArgumentTypeError(f"{rule}, but got {_shorten(text)}")
    return number


def _read_digits(text: str) -> int:
    """Returns a number of a few plain digits; -1 for all else."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else -1


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _count(text: str) -> int:
    return 0 if text == "0" else _at_least_one(text)


def _seed(text: str) -> int:
    if not 0 <= (seed := _read_digits(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {2**32 - 1}, but got {_shorten(text)}")
    return seed


def _gpu_share(text: str) -> float:
    share = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text) else -1.0
    if share != 0 and not 0.01 <= share <= 1 and not (1 < share < 1e4 and share == int(share)):
        raise argparse.ArgumentTypeError(
            f"must be 0, a fraction from 0.01 to 1, or a whole number of GPUs, but got {_shorten(text)}"
        )
    return share


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m search.run",
        description="Searches LoRA fine-tunes of SAM2 for one that beats zero-shot. Without --data it runs "
        "on built-in synthetic tissue, without --model on the shipped 2.5 M-parameter nano: a demo.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--space", help="a shipped space (lora.yaml) or a file of your own")
    what.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a search that stopped: its name below --storage, its folder, or last; a larger --num-trials "
        "adds trials",
    )
    data = parser.add_argument_group("data and model")
    data.add_argument("--data", metavar="DIR", help="folder with images/, masks/, perhaps dataset.yaml")
    data.add_argument(
        "--split",
        default="auto",
        choices=("auto", "declared", "bcss", "random"),
        help="auto: the declared one, else bcss for TCGA names, else drawn by --seed, stratified by class",
    )
    data.add_argument(
        "--folds",
        type=_at_least_one,
        metavar="K",
        help="cross-validate by patient over train and val in place of the one split; K times the work",
    )
    data.add_argument(
        "--allow-leak",
        action="store_true",
        help="go on where parts share patients or pixels, and mark every result with it",
    )
    data.add_argument("--model", default="nano", help="nano (default), tiny, small, base_plus or large")
    data.add_argument("--checkpoint", metavar="FILE", help="weights of the model, or a hub id")
    data.add_argument(
        "--pathology-weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a pathology encoder that the space fuses with SAM2's, or a hub id; may be repeated; "
        "without them it has random weights",
    )
    data.add_argument("--protocol", help="evaluation protocol; the space's own by default")
    naming = parser.add_argument_group("naming", "CLIP names the masks of zero-shot SAM2; only with --clip-weights")
    naming.add_argument(
        "--clip-weights",
        metavar="FILE_OR_HUB_ID",
        help="weights of an open_clip model: a file, a folder with open_clip_config.json, or a hub id",
    )
    naming.add_argument(
        "--clip-model", metavar="NAME", help="which open_clip model; default: what comes with the weights, or ViT-B-32"
    )
    naming.add_argument(
        "--prompt-texts", metavar="FILE", help="YAML, class name to texts; shipped for BCSS's five classes"
    )
    effort = parser.add_argument_group("effort")
    effort.add_argument(
        "--num-trials", type=_at_least_one, metavar="N", help="trials; the space's own by default"
    )
    effort.add_argument("--max-epochs", type=_at_least_one, metavar="N", help="epochs of a whole trial")
    effort.add_argument(
        "--confirm",
        type=_count,
        default=3,
        metavar="K",
        help="train the best K configurations again before test is opened; 0 for none (default: 3)",
    )
    effort.add_argument(
        "--confirm-seeds", type=_at_least_one, default=3, metavar="N", help="with N new seeds each (default: 3)"
    )
    effort.add_argument(
        "--time-budget",
        type=parse_duration,
        metavar="T",
        help="of the search's trials, like 90s, 15m, 2h; a resume counts anew",
    )
    effort.add_argument("--seed", type=_seed, default=0, help="of everything left to chance (default: 0)")
    where = parser.add_argument_group("where")
    where.add_argument(
        "--gpus-per-trial", type=_gpu_share, metavar="G", help="fractions too; default 1, or 0 without GPUs"
    )
    where.add_argument("--max-concurrent", type=_at_least_one, metavar="N", help="trials at once")
    where.add_argument("--address", help="of a Ray cluster to join, such as auto or ray://host:10001")
    add_storage_option(where)
    where.add_argument("--name", help="of this search and its folder; default: space and time")
    where.add_argument("--experiment", help="of MLflow; the space's name by default")
    where.add_argument("--json", action="store_true", help="print summary.json as the last line")
    return parser


def add_storage_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--storage``."""
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        help="folder of all searches (default: runs), which all nodes of a cluster share; or a URL such as "
        "s3://bucket/searches for the checkpoints, all else then in runs",
    )
