"""Names of MLflow runs as people read them: ``trial 07 · r16 · lr 2e-4 · stopped at 3``."""

from collections.abc import Mapping
from typing import Any

SEPARATOR = " · "
WINNER, FAILED, STOPPED = "winner", "failed", "stopped at "


def name_trial(kind: str, trial: str, config: Mapping[str, Any], protocol: str = "") -> str:
    """Names a trial's run by its number or id, with what matters most in its configuration, or with its protocol."""
    parts = [protocol] if protocol else _describe_config(config)
    return SEPARATOR.join([f"{kind} {trial}", *parts])


def name_repeat(kind: str, trial: str, seed: object) -> str:
    """Names the run that trains a trial's configuration again: ``confirmation · trial 07 · seed 2``."""
    return SEPARATOR.join([kind, f"trial {trial}", f"seed {seed}"])


def spell_number(number: str) -> str:
    """Returns a trial's number in two digits, which sort; anything else, such as an id, as it is."""
    return f"{int(number):02d}" if number.isdecimal() else number


def add_end(name: str, end: str) -> str:
    """Returns a run's name with how it ended as its last part, in place of an earlier end."""
    parts = [part for part in name.split(SEPARATOR) if part != FAILED and not part.startswith(STOPPED)]
    return SEPARATOR.join([*parts, *([end] if end else [])])


def mark_winner(name: str, is_winner: bool) -> str:
    """Returns a run's name with ``winner`` as its first part, or without it."""
    parts = [part for part in name.split(SEPARATOR) if part != WINNER]
    return SEPARATOR.join([*([WINNER] if is_winner else []), *parts])


def _describe_config(config: Mapping[str, Any]) -> list[str]:
    kind, rank, lr = (config.get(f"{name}") for name in ("adapter.kind", "adapter.rank", "optim.lr"))
    parts = [str(kind)] if kind not in (None, "lora") else []
    if rank is not None and kind != "none":
        parts.append(f"r{rank}")
    if isinstance(lr, float):
        digits, _, power = f"{lr:.1e}".partition("e")
        parts.append(f"lr {digits.removesuffix('.0')}e{int(power)}")
    return parts
