"""The fields of a protocol that a search without training may vary, by flat names such as ``protocol.tta``.

A search of fine-tunes keeps its protocol, so that no trial beats the bar by an easier one. Without training, the
question is what a prompt, test-time augmentation or a clean-up yields, and each answer has its own protocol.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainables.protocol.prompts import PROMPT_KINDS
from trainables.protocol.spec import PROTOCOLS, Protocol
from trainables.protocol.tta import IDENTITY, VIEWS
from trainables.recipe import FieldRule, Scalar

PREFIX = "protocol."

# Names for the useful subsets of D4.
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
        "components": FieldRule(str, "which parts of a class are prompted", choices=("largest", "every", "whole")),
        "min_component_px": FieldRule(int, "least pixels of a prompted component; only with every", 1, 1_000_000),
        "tta": FieldRule(str, "views whose logits are averaged, the plain one among them", choices=tuple(TTA_SETS)),
        "threshold": FieldRule(float, "mask logits above it are foreground", -20.0, 20.0),
        "closing_px": FieldRule(int, "side of the morphological closing's square, odd; 0 for none", 0, 101),
        "keep_largest": FieldRule(bool, "whether only the prediction's largest component is scored"),
    }.items()
}


def change_protocol(base: Protocol, values: Mapping[str, Scalar]) -> Protocol:
    """Returns a search's protocol with a trial's values, by names of ``PROTOCOL_RULES``.

    It has the name of the named protocol that it equals; else the base's with the changes, such as
    ``recorded+tta=all``.

    Raises:
        ValueError: If no protocol can have the values together.
    """
    fields: dict[str, Any] = {name.removeprefix(PREFIX): value for name, value in values.items()}
    words = [f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in fields.items()]
    prompt = PROMPT_KINDS[fields.pop("prompt")] if "prompt" in fields else base.prompt
    points = {key: fields.pop(key) for key in ("n_positive", "n_negative") if key in fields}
    if "tta" in fields:
        fields["tta"] = TTA_SETS[fields["tta"]]
    changed = dataclasses.replace(base, prompt=dataclasses.replace(prompt, **points), **fields)
    named = [one.name for one in (base, *PROTOCOLS.values()) if one.id == changed.id]
    return dataclasses.replace(changed, name=named[0] if named else f"{base.name}+{','.join(words)}")
