"""A protocol says what a Dice means; two numbers can be compared only under one protocol."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from trainables.components import BoolMask, keep_largest_component, list_components
from trainables.errors import TrainablesError
from trainables.prompts import PROMPT_KINDS, PromptSpec


class ProtocolMismatch(TrainablesError):
    """Two numbers of different protocols were about to be compared."""


@dataclass(frozen=True)
class Protocol:
    """Everything between a model and its score.

    Attributes:
        name: What a user calls it; not part of the id.
        prompt: What the model is told about each object.
        components: Which parts of a class are prompted: the ``largest`` connected component (as the recorded
            experiments did), ``every`` one with at least ``min_component_px`` pixels (the masks are united),
            or the ``whole`` class as one object.
        min_component_px: See ``components``.
        prompt_seed: Seed of points that are drawn.
        multimask: The decoder offers three masks and the one it holds best is scored; else its single mask.
        threshold: Mask logits above it are foreground.
        closing_px: Side of the square of a morphological closing, odd; 0 for none.
        keep_largest: Whether only the largest component of the prediction is scored.
        count_outside: Whether pixels outside the annotated region (the data set's ignored ids) count.
        averaging: ``pairs`` is the mean over (image, class) pairs, ``classes`` the mean of the
            classes' means, ``pixels`` pools a class's pixel counts over all images, then averages classes.
    """

    name: str
    prompt: PromptSpec
    components: str = "largest"
    min_component_px: int = 1
    prompt_seed: int = 0
    multimask: bool = True
    threshold: float = 0.0
    closing_px: int = 0
    keep_largest: bool = False
    count_outside: bool = False
    averaging: str = "pairs"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("components", ("largest", "every", "whole")),
            ("averaging", ("pairs", "classes", "pixels")),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, but got {value!r}")
        if self.closing_px < 0 or (self.closing_px and self.closing_px % 2 == 0):
            # An even square has no center: the closed mask would be shifted.
            raise ValueError(f"closing_px must be 0 or odd, but got {self.closing_px}")

    def to_dict(self) -> dict[str, object]:
        """Returns every field, plain enough for YAML and JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Protocol:
        """Builds the protocol that :meth:`to_dict` described."""
        return Protocol(**{**fields, "prompt": PromptSpec(**fields["prompt"])})

    @cached_property
    def id(self) -> str:
        """Eight hexadecimal digits that change with everything but the name."""
        fields = _equalize({key: value for key, value in self.to_dict().items() if key != "name"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """Returns one line for screens, with all that is out of the ordinary."""
        prompt = ["box"] * self.prompt.box + ["centroid"] * self.prompt.centroid
        if self.prompt.n_positive:
            prompt.append(f"{self.prompt.n_positive} positive points")
        if self.prompt.n_negative:
            margin = f"{self.prompt.negative_margin_px:g} px away"
            prompt.append(f"{self.prompt.n_negative} negative points {margin}")
        which = {
            "largest": "the largest component",
            "every": f"every component of {self.min_component_px} px or more",
            "whole": "the whole class",
        }
        cleanup = [f"closing {self.closing_px} x {self.closing_px}"] * bool(self.closing_px)
        cleanup += ["largest component kept"] * self.keep_largest
        odd = [f"prompt seed {self.prompt_seed}"] * bool(self.prompt_seed)
        odd += ["single mask"] * (not self.multimask)
        odd += [f"threshold {self.threshold:g}"] * bool(self.threshold)
        odd += ["pixels outside count"] * self.count_outside
        asked = f"{' + '.join(prompt)} of {which[self.components]}"
        parts = [asked, *cleanup, *odd, f"mean over {self.averaging}"]
        return f"{self.name} [{self.id}]: {', '.join(parts)}"


def require_same_protocol(first: Protocol, second: Protocol) -> None:
    """Refuses to compare numbers of two protocols.

    Raises:
        ProtocolMismatch: Naming every field that differs.
    """
    if first.id == second.id:
        return
    mine, theirs = first.to_dict(), second.to_dict()
    differing = [
        f"{key}: {mine[key]} against {theirs[key]}"
        for key in mine
        if key != "name" and mine[key] != theirs[key]
    ]
    raise ProtocolMismatch(
        f"numbers under {first.name} [{first.id}] and {second.name} [{second.id}] cannot be compared; "
        f"they differ in {'; '.join(differing)}"
    )


def _equalize(value: object) -> object:
    """Makes equal values hash alike: a margin of 10 read from YAML is a margin of 10.0."""
    if isinstance(value, dict):
        return {key: _equalize(item) for key, item in value.items()}
    return float(value) if isinstance(value, (bool, int, float)) else value


def find_components(class_mask: BoolMask, protocol: Protocol) -> list[BoolMask]:
    """Returns the parts of a class that the protocol prompts; none where the class is absent."""
    if not class_mask.any():
        return []
    if protocol.components == "whole":
        return [class_mask]
    if protocol.components == "largest":
        return [keep_largest_component(class_mask)]
    return list_components(class_mask, protocol.min_component_px)


def find_valid(mask: np.ndarray, ignore_ids: Sequence[int], protocol: Protocol) -> BoolMask | None:
    """Returns the pixels that count, or None where all do."""
    if protocol.count_outside or not ignore_ids:
        return None
    valid: BoolMask = ~np.isin(mask, ignore_ids)
    return valid


def clean_mask(mask: BoolMask, protocol: Protocol) -> BoolMask:
    """Applies the protocol's morphological closing, then its choice of components."""
    if protocol.closing_px:
        kernel = np.ones((protocol.closing_px, protocol.closing_px), np.uint8)
        mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    return keep_largest_component(mask) if protocol.keep_largest else mask


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("recorded", PROMPT_KINDS["box-neg"], closing_px=7, keep_largest=True),
        Protocol("box", PROMPT_KINDS["box"]),
        Protocol("box-neg", PROMPT_KINDS["box-neg"]),
        Protocol("centroid", PROMPT_KINDS["centroid"]),
        Protocol("points", PROMPT_KINDS["points"]),
        Protocol("components", PROMPT_KINDS["box"], components="every", min_component_px=16),
    )
}
