"""The protocol: how a Dice is measured. Two Dice can be compared only under one protocol."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from trainables.errors import TrainablesError
from trainables.protocol.components import BoolMask, Component, keep_largest_component, list_components, take_whole
from trainables.protocol.prompts import PROMPT_KINDS, PromptSpec
from trainables.protocol.tta import IDENTITY, VIEWS
from trainables.tiles.grid import Tile, Tiles, take_region


class ProtocolMismatch(TrainablesError):
    """Two numbers of different protocols were about to be compared."""


@dataclass(frozen=True)
class Protocol:
    """Everything between a model and its score.

    Attributes:
        name: For users; not part of the id.
        prompt: What the model is given for each object.
        components: Which parts of a class are prompted: the ``largest`` connected component (as in the recorded
            experiments), ``every`` one with at least ``min_component_px`` pixels (the masks are united),
            the ``whole`` class as one object, or ``none``: the model itself labels every pixel with a class or
            background. With ``none`` the prompt is empty, masks are not cleaned (a pixel has one label), counts are
            pooled (``pixels``), and the decoder gives a single mask.
        min_component_px: See ``components``.
        prompt_seed: Of drawn points; always 0, as three more fields have one value: ids, and protocols on record, hold
            them.
        multimask: Always True: of the decoder's three masks, the one with the highest predicted IoU is scored.
        threshold: Mask logits above it are foreground.
        closing_px: Side of the square of a morphological closing, odd; 0 for none.
        keep_largest: Whether only the largest component of the prediction is scored.
        count_outside: Always False: pixels outside the annotated region (the data set's ignored ids) do not count.
        averaging: ``pairs`` is the mean over (image, class) pairs, ``classes`` the mean of the
            classes' means, ``pixels`` pools a class's pixel counts over all images, then averages classes.
        score_px: Always 0: components, prompts, margins, clean-up and overlap have the region's own size.
        tta: Flips and quarter turns (elements of D4) under which a region is seen, in any order; logits and
            predicted IoU are averaged over them.
        tiles: How regions are cut; None where each is seen whole. Prompts are drawn, and masks cleaned, tile by tile;
            the masks are then joined, each tile answering for its own part, and a region's classes are scored as
            without tiles. Components and margins are those of a tile, in the region's own pixels.
    """

    name: str
    prompt: PromptSpec
    components: str = "largest"
    min_component_px: int = 1
    prompt_seed: Literal[0] = 0
    multimask: Literal[True] = True
    threshold: float = 0.0
    closing_px: int = 0
    keep_largest: bool = False
    count_outside: Literal[False] = False
    averaging: str = "pairs"
    score_px: Literal[0] = 0
    tta: tuple[str, ...] = (IDENTITY,)
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        for field, allowed in (
            ("components", ("largest", "every", "whole", "none")),
            ("averaging", ("pairs", "classes", "pixels")),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, but got {value!r}")
        if self.closing_px < 0 or (self.closing_px and self.closing_px % 2 == 0):
            # An even square has no center: the closed mask would be shifted.
            raise ValueError(f"closing_px must be 0 or odd, but got {self.closing_px}")
        if not self.tta or len(set(self.tta)) < len(self.tta) or not set(self.tta) <= set(VIEWS):
            raise ValueError(f"tta must be one or more of {', '.join(VIEWS)}, each once, but got {self.tta!r}")
        self._check_prompt()
        # One order for equal sets: the id, and the sum of the logits to its last bit, do not depend on it.
        object.__setattr__(self, "tta", tuple(view for view in VIEWS if view in self.tta))

    def _check_prompt(self) -> None:
        if not self.is_auto and self.prompt.is_empty:
            raise ValueError("a prompt needs a box, the centroid or at least one positive point")
        needed = {"closing_px": 0, "keep_largest": False, "threshold": 0.0, "averaging": "pixels"}
        odd = [f"{name}={getattr(self, name)!r}" for name, value in needed.items() if getattr(self, name) != value]
        odd += ["a prompt"] * (not self.prompt.is_empty)
        if self.is_auto and odd:
            raise ValueError(f"components none must go with averaging pixels and no clean-up, but got {', '.join(odd)}")

    @property
    def is_auto(self) -> bool:
        """Whether nothing is prompted: the model labels every pixel by itself."""
        return self.components == "none"

    @property
    def floor_words(self) -> str:
        """The floor in words."""
        return "one class everywhere" if self.is_auto else "filled prompt box"

    def to_dict(self) -> dict[str, object]:
        """Returns every field, plain enough for YAML and JSON."""
        return dataclasses.asdict(self)

    @cached_property
    def id(self) -> str:
        """Eight hexadecimal digits that depend on every field except the name."""
        # Without tiles they are no part: ids on record stay what they are.
        left_out = {"name", *(["tiles"] if self.tiles is None else [])}
        fields = _equalize({key: value for key, value in self.to_dict().items() if key not in left_out})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """Returns one line for screens, with every field that differs from its default."""
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
        odd = [f"threshold {self.threshold:g}"] * bool(self.threshold)
        odd += [f"TTA of {' + '.join(self.tta)}"] * (self.tta != (IDENTITY,))
        odd += [f"in {self.tiles.describe()}"] if self.tiles else []
        asked = (
            "no prompt, every pixel named by a class or as background"
            if self.is_auto
            else f"{' + '.join(prompt)} of {which[self.components]}"
        )
        parts = [asked, *cleanup, *odd, f"mean over {self.averaging}"]
        return f"{self.name} [{self.id}]: {', '.join(parts)}"


def add_tiles(protocol: Protocol, tiles: Tiles | None) -> Protocol:
    """Returns a protocol with tiles, under a name that says so; the same one without."""
    return dataclasses.replace(protocol, name=f"{protocol.name}+tiles", tiles=tiles) if tiles else protocol


def require_same_protocol(first: Protocol, second: Protocol) -> None:
    """Checks that numbers of two protocols can be compared.

    Raises:
        ProtocolMismatch: If they cannot; it names every field that differs.
    """
    if first.id == second.id:
        return
    mine, theirs = first.to_dict(), second.to_dict()
    differing = [
        f"{key}: {mine[key]} against {theirs[key]}" for key in mine if key != "name" and mine[key] != theirs[key]
    ]
    raise ProtocolMismatch(
        f"numbers under {first.name} [{first.id}] and {second.name} [{second.id}] cannot be compared; "
        f"they differ in {'; '.join(differing)}"
    )


def _equalize(value: object) -> object:
    """Converts numbers to float, so that equal values have equal hashes: a margin of 10 from YAML, and of 10.0."""
    if isinstance(value, dict):
        return {key: _equalize(item) for key, item in value.items()}
    return float(value) if isinstance(value, (bool, int, float)) else value


def find_components(class_mask: BoolMask, protocol: Protocol) -> list[Component]:
    """Returns the components of a class that the protocol prompts; none if the class is absent."""
    if protocol.is_auto or not class_mask.any():
        return []
    if protocol.components == "whole":
        return [take_whole(class_mask)]
    if protocol.components == "largest":
        return [take_whole(keep_largest_component(class_mask))]
    return list_components(class_mask, protocol.min_component_px)


def find_tiles(size: tuple[int, int], um_per_px: float, protocol: Protocol) -> list[Tile]:
    """Returns what a model sees of a region of a height and width: its tiles, or without tiles itself."""
    return protocol.tiles.cut(size, um_per_px) if protocol.tiles else [take_region(size)]


def find_valid(mask: np.ndarray, ignore_ids: Sequence[int]) -> BoolMask | None:
    """Returns the pixels that count, or None if all do."""
    if not ignore_ids:
        return None
    valid: BoolMask = ~np.isin(mask, ignore_ids)
    return valid


def clean_mask(mask: BoolMask, protocol: Protocol) -> BoolMask:
    """Applies the protocol's morphological closing, then its choice of components."""
    if protocol.closing_px:
        kernel = np.ones((protocol.closing_px, protocol.closing_px), np.uint8)
        mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    return keep_largest_component(mask) if protocol.keep_largest else mask


_RECORDED = Protocol("recorded", PROMPT_KINDS["box-neg"], closing_px=7, keep_largest=True)
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _RECORDED,
        dataclasses.replace(_RECORDED, name="recorded-tta", tta=(IDENTITY, "rot90", "hflip", "vflip")),
        Protocol("box", PROMPT_KINDS["box"]),
        Protocol("box-neg", PROMPT_KINDS["box-neg"]),
        Protocol("centroid", PROMPT_KINDS["centroid"]),
        Protocol("points", PROMPT_KINDS["points"]),
        Protocol("components", PROMPT_KINDS["box"], components="every", min_component_px=16),
        Protocol("auto", PromptSpec(), components="none", averaging="pixels"),
    )
}
