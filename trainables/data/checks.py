"""Decodes regions and checks their pixels, class ids and colors."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int64

from trainables.data.dataset_file import PARTS
from trainables.data.images import (
    TURN_FIX,
    UPRIGHT,
    IdMask,
    Palette,
    RgbImage,
    decode_image,
    decode_mask,
    read_bytes,
    read_orientation,
    read_palette,
    read_scale,
    read_size,
)
from trainables.data.palettes import add_palette_hint, find_palette_clashes
from trainables.data.regions import Region, RegionSet, name_part
from trainables.data.splits import Split
from trainables.errors import Finding, collect_findings, count_things, list_some
from trainables.files.processes import map_in_processes
from trainables.files.progress import follow
from trainables.tiles.um_per_px import Scale

IdCounts = Int64[np.ndarray, "256"]

CHECKS = 2  # raised with every check that old stores may not have passed
# More unknown ids than any map of tissue has (BCSS: 22 in all): a picture, or one id an object.
MAX_STRAY_IDS = 32
# Ids without any 3 x 3 px of their own: two may be true specks, three are blurred edges.
_MIN_EDGE_IDS = 3
# On fewer patients the two-sided signed-rank test, and so a verdict, cannot reach p < 0.05: 2 / 2**5 = 0.0625.
MIN_TEST_PATIENTS = 6
_MIN_TRAIN_REGIONS = 6
_MIN_VAL_REGIONS = 6
_LOOK_SIDE_PX = 256
_DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)  # optical density of a value of a color
_STAINED_OD, _COLORED_OD, _GREEN_SLACK_OD = 0.1, 0.08, 0.05
_FLAT_OD, _MIN_FLAT_PIXELS = 0.02, 1000  # JPEG noise on one color; a few pixels may well share one
_BLOCK_PX = 2**22
_FEW_PIXELS = 2 * 10**8  # one process decodes them in 10 s
_PIXELS_AT_ONCE = 25 * 10**7  # some 12 bytes each while they are examined: 3 GB
_MIN_STAINED, _MIN_COLORED, _MIN_PINK = 0.05, 0.02, 0.75


@dataclass(frozen=True)
class DecodedRegion:
    """One region after decoding; its pixels are usable only if it has no findings. Warnings stop nothing.

    Attributes:
        image: RGB, [h, w, 3] in 0..255; None if it cannot be decoded.
        mask: Class ids, [h, w]; None if it cannot be decoded.
        sha256: Of the image's and of the mask's bytes, hexadecimal; empty if a file cannot be read.
        pixels: Number of pixels of each id, [256].
        palette: The mask's palette, restricted to ids that it holds.
        scale: The region's own, else that of the image's resolution tags.
        stored: What the place that was given for it returned.
    """

    region: Region
    image: RgbImage | None
    mask: IdMask | None
    sha256: tuple[str, str]
    pixels: IdCounts
    palette: Palette
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    scale: Scale = Scale()
    stored: Any = None


@dataclass(frozen=True)
class RegionReport:
    """The result of a pass over all regions: what makes them unusable, and what is worth a look, sorted by file.

    ``class_presence`` has the ids of the classes in the mask of each region without findings, by its name; ``stored``
    what their places returned.
    """

    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    class_presence: Mapping[str, frozenset[int]]
    stored: tuple[Any, ...] = ()


def decode_region(region: Region, regions: RegionSet, has_classes: bool = True) -> DecodedRegion:
    """Reads a region's two files, each once, and checks them; ids only if the data set's classes are known.

    Raises nothing: problems are findings.
    """
    findings: list[Finding] = []
    warnings: list[Finding] = []
    image: RgbImage | None = None
    mask: IdMask | None = None
    palette: Palette = {}
    sha256, turns, scale = ["", ""], [UPRIGHT, UPRIGHT], region.scale
    with collect_findings(findings):
        data = read_bytes(region.image)
        sha256[0] = hashlib.sha256(data).hexdigest()
        image = decode_image(data, str(region.image))
        turns[0] = read_orientation(data)
        scale = scale if scale.um_per_px else read_scale(data)
        warnings += _find_strange_colors(region, image)
    with collect_findings(findings):
        data = read_bytes(region.mask)
        sha256[1] = hashlib.sha256(data).hexdigest()
        mask = decode_mask(data, str(region.mask))
        palette, turns[1] = read_palette(data), read_orientation(data)
    if image is not None and mask is not None:
        findings += _check_sizes(region, (image.shape[:2], mask.shape), turns)
    pixels = np.zeros(256, np.int64) if mask is None else _count_ids(mask)
    palette = {one: color for one, color in palette.items() if pixels[one]}
    if mask is not None and has_classes:
        id_findings = _check_ids(region, regions, pixels)
        if not id_findings:
            warnings += _find_edge_ids(region, mask, pixels)
            id_findings = _find_unknown_ids(region, regions, mask, pixels)
        findings += (add_palette_hint(finding, palette) for finding in id_findings)
    digests = (sha256[0], sha256[1])
    return DecodedRegion(region, image, mask, digests, pixels, palette, tuple(findings), tuple(warnings), scale)


def examine_regions(
    regions: RegionSet,
    has_classes: bool = True,
    places: Iterable[Callable[[DecodedRegion], Any]] = (),
    cores: int = 1,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> RegionReport:
    """Decodes every region and collects the findings of ``decode_region``; on several cores where that pays.

    ``places`` has one for each region, or none at all: where the region has no findings, it is called with it, in the
    process that decoded it, and what it returns is kept. ``sizes`` are those in the masks' headers, if they are known.
    """
    findings: list[Finding] = []
    warnings: list[Finding] = []
    presence: dict[str, frozenset[int]] = {}
    palettes: list[tuple[str, Palette]] = []
    stored = []
    legend = dataclasses.replace(regions, regions=(), declared_split=None, um_per_px={}, locate_split=name_part)
    tasks = zip_longest(regions.regions, places)
    calls = [(region, legend, has_classes, place) for region, place in tasks]
    examined = map_in_processes(_examine, calls, _count_processes(regions, cores, sizes))
    for region, decoded in zip(regions.regions, follow(examined, len(regions.regions), "regions decoded"), strict=True):
        findings += decoded.findings
        warnings += decoded.warnings
        palettes.append((str(region.mask), decoded.palette))
        if not decoded.findings:
            presence[region.name] = frozenset(one for one in regions.classes if decoded.pixels[one])
            stored.append(decoded.stored)
    warnings += find_palette_clashes(palettes, regions.classes)
    return RegionReport(_sort_by_file(findings), _sort_by_file(warnings), presence, tuple(stored))


def _examine(
    region: Region, legend: RegionSet, has_classes: bool, place: Callable[[DecodedRegion], Any] | None
) -> DecodedRegion:
    """Decodes a region, calls its place, and leaves the pixels behind."""
    decoded = decode_region(region, legend, has_classes)
    stored = place(decoded) if place and not decoded.findings else None
    return dataclasses.replace(decoded, image=None, mask=None, stored=stored)


def _count_processes(regions: RegionSet, cores: int, sizes: Sequence[tuple[int, int]] | None) -> int:
    """Returns in how many processes to decode: one for a few regions, and not more than memory should hold at once."""
    if cores == 1:
        return 1
    pixels = list(map(math.prod, sizes or (read_size(region.mask) or (0, 0) for region in regions.regions)))
    return min(cores, max(1, _PIXELS_AT_ONCE // max(pixels))) if sum(pixels) > _FEW_PIXELS else 1


def find_weak_parts(
    split: Split, regions: RegionSet, class_presence: Mapping[str, frozenset[int]], scored: Collection[str]
) -> list[Finding]:
    """Warns of what a split cannot show: parts with too few regions or patients, then classes that a part lacks.

    ``class_presence`` has the ids of the classes in every region's mask, ``scored`` the regions that show something to
    score.
    """
    patient_of = {region.name: region.patient for region in regions.regions}
    n_train, n_val = (len([name for name in part if name in scored]) for part in (split.train, split.val))
    n_patients = len({patient_of[name] for name in split.test if name in scored})
    weak = []
    if n_train < _MIN_TRAIN_REGIONS:
        what = f"train has {count_things(n_train, 'region')}: too few to learn from"
        weak.append(("split.train", what, "add regions, of other patients if possible"))
    if n_val < _MIN_VAL_REGIONS:
        what = f"val has {count_things(n_val, 'region')}: trials differ by little more than chance"
        weak.append(("split.val", what, "add regions, or cross-validate with --folds"))
    if n_patients < MIN_TEST_PATIENTS:
        what = f"test has {count_things(n_patients, 'patient')}: too few, the verdict can only be `undecided`"
        fix = f"test on at least {MIN_TEST_PATIENTS} patients; dataset.yaml can name each region's patient"
        weak.append(("split.test", what, fix))
    for one, name in regions.classes.items():
        parts = [part for part in PARTS if any(one in class_presence[each] for each in split.parts[part])]
        weak += [("classes", *gap) for gap in _describe_gap(f"{one} {name}", parts)]
    return [Finding(f"{regions.root} {where}", what, fix) for where, what, fix in weak]


def shows_objects(mask: IdMask) -> bool:
    """Says whether ids 1, 2, ... mark one connected piece each, as where every object has an id of its own."""
    ids = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:]) + 1
    is_numbered = len(ids) > 1 and int(ids[-1]) == len(ids)
    return is_numbered and all(cv2.connectedComponents((mask == one).astype(np.uint8))[0] == 2 for one in ids)


def _count_ids(ids: np.ndarray) -> IdCounts:
    """Counts pixels by id, block by block: NumPy makes eight bytes of each."""
    flat, counts = ids.ravel(), np.zeros(256, np.int64)
    for start in range(0, flat.size, _BLOCK_PX):
        counts += np.bincount(flat[start : start + _BLOCK_PX], minlength=256)
    return counts


def _check_sizes(region: Region, sizes: tuple[tuple[int, ...], tuple[int, ...]], turns: list[int]) -> list[Finding]:
    """Finds a mask of another size than its image, or one that viewers turn otherwise than its image.

    ``sizes`` are height and width of image and mask as they are stored, ``turns`` what ``read_orientation`` returns.
    """
    shown = [size[::-1] if turn > 4 else size for size, turn in zip(sizes, turns, strict=True)]
    # If turning makes one size two, the mask was drawn on the pixels as they are stored.
    if turns[0] != turns[1] and shown[0] == shown[1]:
        what = f"viewers turn the image by its orientation tag ({turns[0]}), and its mask otherwise ({turns[1]})"
        fix = f"{TURN_FIX}; if its mask fits the pixels as they are stored, remove the tag alone"
        return [Finding(str(region.image if turns[0] != UPRIGHT else region.mask), what, fix)]
    if sizes[0] == sizes[1]:
        return []
    image_size, mask_size = (f"{width} x {height}" for height, width in sizes)
    what = f"the mask has {mask_size} pixels (width x height), its image {region.image.name} {image_size}"
    return [Finding(str(region.mask), what, "export both at one size")]


def _describe_gap(name: str, parts: list[str]) -> list[tuple[str, str]]:
    """Returns what is lost if a class is in these parts only, with the fix; nothing if nothing is."""
    if not parts:
        return [(f"class {name} is in no mask of the split", "correct `classes` or the masks, or leave the class out")]
    if "train" not in parts:
        what = f"class {name} is in no region of train, but in {' and '.join(parts)}"
        return [(what, "it is scored and cannot be learned: move a region of it to train, or leave the class out")]
    if parts == ["train"]:
        what = f"class {name} is in train alone"
        return [(what, "it is learned and never scored: move regions of it to val and test")]
    return []


def _sort_by_file(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.where))


def _list_classes(regions: RegionSet) -> str:
    return "the classes are " + ", ".join(f"{one} {name}" for one, name in regions.classes.items())


def _check_ids(region: Region, regions: RegionSet, pixels: IdCounts) -> list[Finding]:
    """Finds a mask without any class or background, and one with more unknown ids than a mistaken list can explain."""
    ids = np.flatnonzero(pixels).tolist()
    strays = set(ids) - regions.known_ids
    if len(strays) > MAX_STRAY_IDS:
        what = f"holds {len(ids)} different ids, as a blurred (JPEG, resized) mask, a gray picture or one id an object"
        fix = f"export class ids, without interpolation; {_list_classes(regions)}"
    elif regions.classes.keys() & ids or (not strays and set(ids) - set(regions.ignore_ids)):
        return []
    elif 255 in ids and set(ids) <= {0, 255}:
        what, fix = "looks like 0/255", f"divide it by 255; {_list_classes(regions)}"
    else:
        what = f"holds none of the classes, only ids {list_some(ids, 12)}" + ", which do not count" * (not strays)
        fix = f"{_list_classes(regions)}: correct the mask or `classes`, or take the region out"
    return [Finding(str(region.mask), what, fix)]


def _find_unknown_ids(region: Region, regions: RegionSet, mask: IdMask, pixels: IdCounts) -> list[Finding]:
    """Finds ids without a declared meaning: pixels that would count as background, perhaps by mistake."""
    unknown = [one for one in np.flatnonzero(pixels).tolist() if one not in regions.known_ids]
    if not unknown:
        return []
    listed = ", ".join(f"{one} ({count_things(int(pixels[one]), 'pixel')})" for one in unknown)
    what = f"holds ids that are no class, not ignored and no background: {listed}"
    fix = f"{_list_classes(regions)}: correct the mask, or list the ids in dataset.yaml, of no class under "
    fix += "`background`, not to be scored under `ignore`"
    if shows_objects(mask):
        fix = f"if each object has an id of its own, as it looks, give all objects of a class one id; else, {fix}"
    return [Finding(str(region.mask), what, fix)]


def _find_edge_ids(region: Region, mask: IdMask, pixels: IdCounts) -> list[Finding]:
    """Finds ids that only line the edges of others, as interpolation and lossy compression leave them."""
    square = np.ones((3, 3), np.uint8)
    inner = mask[cv2.erode(mask, square) == cv2.dilate(mask, square)]
    edges = np.flatnonzero((pixels > 0) & (_count_ids(inner) == 0))
    if len(edges) < _MIN_EDGE_IDS or not inner.size:
        return []
    what = f"ids {list_some(edges.tolist(), 12)} form only lines and specks, as in a blurred (JPEG, resized) mask"
    fix = "export the mask from its source, without interpolation; if they are true specks, leave it"
    return [Finding(str(region.mask), what, fix)]


def _find_strange_colors(region: Region, image: RgbImage) -> list[Finding]:
    """Finds images that do not look like H&E: a plot, a photograph, a plain color, an empty part of a slide.

    Hematoxylin and eosin absorb green the most (optical densities in Ruifrok and Johnston 2001, "Quantification of
    histochemical staining by color deconvolution"), so tissue is blue-purple to pink: at least 0.96 of the colored
    pixels in real H&E, 0.01 to 0.5 in photographs.
    """
    step = max(1, round((image.shape[0] * image.shape[1]) ** 0.5 / _LOOK_SIDE_PX))
    # A plane a color: NumPy takes ten times as long over the three values of each pixel.
    red, green, blue = planes = [_DENSITY[image[::step, ::step, color]] for color in range(3)]
    strongest, weakest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    stained = strongest > _STAINED_OD
    colored = stained & (strongest - weakest > _COLORED_OD)
    pink = colored & (green >= strongest - _GREEN_SLACK_OD)
    if stained.mean() < _MIN_STAINED:
        what = f"{1 - stained.mean():.0%} of it is as bright as empty glass: no tissue, or a plot"
    elif strongest.size >= _MIN_FLAT_PIXELS and max(map(np.ptp, planes)) < _FLAT_OD:
        what = "is of one color all over: no tissue"
    elif colored.sum() < _MIN_COLORED * stained.sum():
        what = "is gray: no H&E stain"
    elif (share := pink.sum() / colored.sum()) < _MIN_PINK:
        what = f"only {share:.0%} of its colored pixels are pink to purple, like H&E: a photo or another stain"
    else:
        return []
    return [Finding(str(region.image), what, "take it out if it is no H&E tissue")]
