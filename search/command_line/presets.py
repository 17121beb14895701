"""How much a search does, in one word; what is said beside it wins."""

from collections.abc import Mapping
from typing import Literal

Preset = Literal["quick", "standard", "thorough"]

# Options by field. quick shows that everything runs; the other two are for real data, by what its owner can wait for.
PRESETS: Mapping[Preset, Mapping[str, int]] = {
    "quick": {"num_trials": 4, "max_epochs": 2, "confirm": 1, "confirm_seeds": 1},
    "standard": {"num_trials": 64, "max_epochs": 16, "confirm": 3, "confirm_seeds": 3},
    "thorough": {"num_trials": 200, "max_epochs": 32, "confirm": 5, "confirm_seeds": 5},
}


def describe_presets() -> str:
    """Returns the table as a sentence for the help text."""
    return "; ".join(
        f"{name}: {each['num_trials']} trials of {each['max_epochs']} epochs, {each['confirm']} confirmed with "
        f"{each['confirm_seeds']} new seed{'s' * (each['confirm_seeds'] > 1)}"
        for name, each in PRESETS.items()
    )
