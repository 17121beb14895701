"""The parts of a protocol that a search without training may vary, by flat names such as ``protocol.tta``.

A fine-tune's search keeps its protocol: nothing beats the bar by choosing an easier one. Where nothing is trained,
the question is what a prompt, test-time augmentation or a clean-up yields, and each answer has its own protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainables.protocol.prompts import PROMPT_KINDS
from trainables.protocol.spec import PROTOCOLS, Protocol
from trainables.protocol.tta import IDENTITY, VIEWS
from trainables.recipe import FieldRule, Scalar

PREFIX = "protocol."

# A search's values are plain words: those subsets of D4 that are worth one.
TTA_SETS: dict[str, tuple[str, ...]] = {
    "none": (IDENTITY,),
    "hflip": (IDENTITY, "hflip"),
    "vflip": (IDENTITY, "vflip"),
    "rot90": (IDENTITY, "rot90"),
    "flips": (IDENTITY, "hflip", "vflip", "rot180"),
    "turns": (IDENTITY, "rot90", "rot180", "rot270"),
    "recorded": (IDENTITY, "rot90", "hflip", "vflip"),
    "all": VIEWS,
}

PROTOCOL_RULES: Mapping[str, FieldRule] = {
    PREFIX + name: rule
    for name, rule in {
        "prompt": FieldRule(str, "kind of prompt, with its own numbers of points", choices=tuple(PROMPT_KINDS)),
        "n_positive": FieldRule(int, "positive points drawn inside the component, in place of the kind's own", 0, 100),
        "n_negative": FieldRule(int, "negative points drawn outside the class, in place of the kind's own", 0, 100),
        "components": FieldRule(
            str, "which parts of a class are prompted", choices=("largest", "every", "whole")
        ),
        "min_component_px": FieldRule(int, "least pixels of a prompted component; only with every", 1, 1_000_000),
        "tta": FieldRule(str, "views whose logits are averaged, the plain one among them", choices=tuple(TTA_SETS)),
        "threshold": FieldRule(float, "mask logits above it are foreground", -20.0, 20.0),
        "closing_px": FieldRule(int, "side of the morphological closing's square, odd; 0 for none", 0, 101),
        "keep_largest": FieldRule(bool, "whether only the prediction's largest component is scored"),
    }.items()
}


def change_protocol(base: Protocol, values: Mapping[str, Scalar]) -> Protocol:
    """Returns the protocol that a trial's values make of a search's own.

    It bears the name of the named protocol that it equals; else the base's with what is different, such as
    ``recorded+tta=all``.

    Args:
        base: What everything that is not named comes from.
        values: By names of ``PROTOCOL_RULES``.

    Raises:
        ValueError: If a name is none of these, or if no protocol can have the values together.
    """
    if unknown := sorted(set(values) - set(PROTOCOL_RULES)):
        raise ValueError(f"no parts of a protocol: {', '.join(unknown)}")
    fields: dict[str, Any] = {name.removeprefix(PREFIX): value for name, value in values.items()}
    words = [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in fields.items()]
    prompt = PROMPT_KINDS[fields.pop("prompt")] if "prompt" in fields else base.prompt
    points = {key: fields.pop(key) for key in ("n_positive", "n_negative") if key in fields}
    if "tta" in fields:
        fields["tta"] = TTA_SETS[fields["tta"]]
    changed = dataclasses.replace(base, prompt=dataclasses.replace(prompt, **points), **fields)
    named = [one.name for one in (base, *PROTOCOLS.values()) if one.id == changed.id]
    return dataclasses.replace(changed, name=named[0] if named else f"{base.name}+{','.join(words)}")
