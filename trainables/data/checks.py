"""What one decoding pass tells about each region: its pixels, what is wrong with them, and its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int64

from trainables.data.dataset_file import PARTS
from trainables.data.images import IdMask, Palette, RgbImage, decode_image, decode_mask, read_bytes, read_palette
from trainables.data.palettes import add_palette_hint, find_palette_clashes
from trainables.data.regions import Region, RegionSet
from trainables.data.splits import Split
from trainables.errors import DataError, Finding

IdCounts = Int64[np.ndarray, "256"]

# More unknown ids than any map of tissue has (BCSS: 22 in all): a picture, or one id an object.
MAX_STRAY_IDS = 32
# Ids without any 3 x 3 px of their own: two may be true specks, three are what blurred edges leave.
_MIN_EDGE_IDS = 3
# The two-sided signed-rank test on fewer patients cannot reach p < 0.05: 2 / 2**5 = 0.0625. So verdicts need them.
MIN_TEST_PATIENTS = 6
_MIN_TRAIN_REGIONS = 6
_MIN_VAL_REGIONS = 6
_LOOK_SIDE_PX = 256
_STAINED_OD, _COLORED_OD, _GREEN_SLACK_OD = 0.1, 0.08, 0.05
_FLAT_OD, _MIN_FLAT_PIXELS = 0.02, 1000  # what JPEG leaves of one color, which a few pixels may well have
_MIN_STAINED, _MIN_COLORED, _MIN_PINK = 0.05, 0.02, 0.75


@dataclass(frozen=True)
class DecodedRegion:
    """One region after decoding. Its pixels are of use only if it has no findings.

    Attributes:
        region: Which one.
        image: RGB, [h, w, 3] in 0..255; None if it cannot be decoded.
        mask: Class ids, [h, w]; None if it cannot be decoded.
        sha256: Of the image's and of the mask's bytes, hexadecimal; empty where a file cannot be read.
        pixel_digest: See ``digest_pixels``; empty if the image cannot be decoded.
        pixels: How many pixels have each id, [256].
        palette: Of the mask's ids, where it has one.
        findings: What makes it unusable.
        warnings: What is worth a look, but stops nothing.
    """

    region: Region
    image: RgbImage | None
    mask: IdMask | None
    sha256: tuple[str, str]
    pixel_digest: str
    pixels: IdCounts
    palette: Palette
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class RegionReport:
    """What a pass over all regions found.

    Attributes:
        findings: What makes regions unusable, sorted by file.
        warn_regions: What is worth a look, but stops nothing, sorted by file.
        class_presence: Region name -> ids of the classes in its mask; only of regions without findings.
    """

    findings: tuple[Finding, ...]
    warn_regions: tuple[Finding, ...]
    class_presence: Mapping[str, frozenset[int]]


def decode_region(region: Region, regions: RegionSet, has_classes: bool = True) -> DecodedRegion:
    """Reads a region's two files, each once, and checks them. Raises nothing: problems are findings.

    Args:
        region: Which one.
        regions: The data set that it belongs to.
        has_classes: Whether the data set's classes are known; otherwise ids are not looked at.
    """
    findings: list[Finding] = []
    warnings: list[Finding] = []
    image: RgbImage | None = None
    mask: IdMask | None = None
    palette: Palette = {}
    image_sha256 = mask_sha256 = ""
    try:
        data = read_bytes(region.image)
        image_sha256 = hashlib.sha256(data).hexdigest()
        image = decode_image(data, str(region.image))
        warnings += _find_strange_colors(region, image)
    except DataError as error:
        findings += error.findings
    try:
        data = read_bytes(region.mask)
        mask_sha256 = hashlib.sha256(data).hexdigest()
        mask = decode_mask(data, str(region.mask))
        palette = read_palette(data)
    except DataError as error:
        findings += error.findings
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        findings.append(_describe_sizes(region, image, mask))
    pixels = np.zeros(256, np.int64) if mask is None else np.bincount(mask.ravel(), minlength=256)
    palette = {one: color for one, color in palette.items() if pixels[one]}
    if mask is not None and has_classes:
        id_findings = _check_ids(region, regions, pixels)
        warnings += [] if id_findings else _find_edge_ids(region, mask, pixels)
        id_findings = id_findings or _find_unknown_ids(region, regions, pixels)
        findings += (add_palette_hint(finding, palette) for finding in id_findings)
    return DecodedRegion(
        region=region,
        image=image,
        mask=mask,
        sha256=(image_sha256, mask_sha256),
        pixel_digest="" if image is None else digest_pixels(image),
        pixels=pixels.astype(np.int64, copy=False),
        palette=palette,
        findings=tuple(findings),
        warnings=tuple(warnings),
    )


def examine_regions(regions: RegionSet, has_classes: bool = True) -> RegionReport:
    """Decodes every region, one at a time in memory, and gathers what ``decode_region`` tells."""
    findings: list[Finding] = []
    warnings: list[Finding] = []
    presence: dict[str, frozenset[int]] = {}
    palettes: list[tuple[str, Palette]] = []
    for region in regions.regions:
        decoded = decode_region(region, regions, has_classes)
        findings += decoded.findings
        warnings += decoded.warnings
        palettes.append((str(region.mask), decoded.palette))
        if not decoded.findings:
            presence[region.name] = frozenset(one for one in regions.classes if decoded.pixels[one])
    warnings += find_palette_clashes(palettes, regions.classes)
    return RegionReport(sort_findings(findings), sort_findings(warnings), presence)


def find_weak_parts(
    split: Split, regions: RegionSet, class_presence: Mapping[str, frozenset[int]]
) -> list[Finding]:
    """Finds what a split cannot show: parts of few patients, and classes that a part lacks.

    Args:
        split: Of the regions.
        regions: The data set that was split.
        class_presence: Region name -> ids of the classes in its mask, for every region.

    Returns:
        Warnings: first of the parts, then one a class.
    """
    warnings = []
    if (n_regions := len(split.train)) < _MIN_TRAIN_REGIONS:
        what = f"train has {_count(n_regions, 'region')}: too few to learn from"
        warnings.append(Finding(f"{regions.root} split.train", what, "add regions, of other patients if possible"))
    if (n_regions := len(split.val)) < _MIN_VAL_REGIONS:
        what = f"val has {_count(n_regions, 'region')}: trials are told apart by little more than chance"
        warnings.append(Finding(f"{regions.root} split.val", what, "add regions, or cross-validate with --folds"))
    patient_of = {region.name: region.patient for region in regions.regions}
    if (n_patients := len({patient_of[name] for name in split.test})) < MIN_TEST_PATIENTS:
        what = f"test has {_count(n_patients, 'patient')}: too few, the verdict can only be `undecided`"
        fix = f"test on at least {MIN_TEST_PATIENTS} patients; dataset.yaml can name whose each region is"
        warnings.append(Finding(f"{regions.root} split.test", what, fix))
    for one, name in regions.classes.items():
        parts = [part for part in PARTS if any(one in class_presence[each] for each in split.parts[part])]
        if told := _describe_gap(f"{one} {name}", parts):
            warnings.append(Finding(f"{regions.root} classes", *told))
    return warnings


def sort_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """Returns findings in the order of their files."""
    return tuple(sorted(findings, key=lambda finding: finding.where))


def digest_pixels(image: RgbImage) -> str:
    """Returns the SHA-256 of an image's pixels and shape, equal for its turned and mirrored copies.

    How the file stores the pixels does not count. The hash is that of one of the eight flips and rotations: the
    one, no taller than wide, whose bytes come first in lexicographic order. Unlike the smallest of eight hashes,
    it is found row by row, most often in the first: 7 ms in place of 43 for 1024 x 1024 pixels of noise.
    """
    transposed = image.transpose(1, 0, 2)
    copies = [turned[:, ::step] for one in (image, transposed) for turned in (one, one[::-1]) for step in (1, -1)]
    copies = [copy for copy in copies if copy.shape[0] <= copy.shape[1]]
    for y in range(copies[0].shape[0]):
        rows = [copy[y].tobytes() for copy in copies]
        copies = [copy for copy, row in zip(copies, rows, strict=True) if row == min(rows)]
        if len(copies) == 1:
            break
    digest = hashlib.sha256(repr(copies[0].shape).encode())  # what is left of several is equal: symmetric
    digest.update(copies[0].tobytes())
    return digest.hexdigest()


def _describe_sizes(region: Region, image: RgbImage, mask: IdMask) -> Finding:
    image_size, mask_size = (f"{shape[1]} x {shape[0]}" for shape in (image.shape, mask.shape))
    what = f"the mask has {mask_size} pixels (width x height), its image {region.image.name} {image_size}"
    return Finding(str(region.mask), what, "export both at one size")


def _describe_gap(name: str, parts: list[str]) -> tuple[str, str] | None:
    """Says what a class that stands in these parts alone cannot do, and what to do about it."""
    if not parts:
        return f"class {name} is in no mask of the split", "correct `classes` or the masks, or leave the class out"
    if "train" not in parts:
        what = f"class {name} is in no region of train, but in {' and '.join(parts)}"
        return what, "it is scored and cannot be learned: move a region of it to train, or leave the class out"
    if parts == ["train"]:
        return f"class {name} is in train alone", "it is learned and never scored: move regions of it to val and test"
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _check_ids(region: Region, regions: RegionSet, pixels: IdCounts) -> list[Finding]:
    """Finds a mask without any class, and one with more unknown ids than a mistaken list can explain."""
    where, ids = str(region.mask), [int(one) for one in np.flatnonzero(pixels)]
    wanted = ", ".join(f"{one} {name}" for one, name in regions.classes.items())
    unknown = [one for one in ids if one not in regions.known_ids]
    if len(unknown) > MAX_STRAY_IDS:
        what = f"holds {len(ids)} different ids, as a blurred (JPEG, resized) mask, a gray picture or one id an object"
        return [Finding(where, what, f"export class ids, without interpolation; the classes are {wanted}")]
    if not any(one in regions.classes for one in ids):
        if 255 in ids and set(ids) <= {0, 255}:
            return [Finding(where, "looks like 0/255", f"divide it by 255; the classes are {wanted}")]
        found = ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")
        fix = f"the classes are {wanted}: correct the mask or `classes`, or take the region out"
        return [Finding(where, f"holds none of the classes, only ids {found}", fix)]
    return []


def _find_unknown_ids(region: Region, regions: RegionSet, pixels: IdCounts) -> list[Finding]:
    """Finds ids that nobody has said the meaning of: pixels that would count as background, perhaps by mistake."""
    unknown = [one for one in np.flatnonzero(pixels).tolist() if one not in regions.known_ids]
    if not unknown:
        return []
    told = ", ".join(f"{one} ({_count(int(pixels[one]), 'pixel')})" for one in unknown)
    wanted = ", ".join(f"{one} {name}" for one, name in regions.classes.items())
    what = f"holds ids that are no class, not ignored and no background: {told}"
    fix = f"the classes are {wanted}: correct the mask, or list the ids in dataset.yaml, of no class under "
    return [Finding(str(region.mask), what, f"{fix}`background`, not to be scored under `ignore`")]


def _find_edge_ids(region: Region, mask: IdMask, pixels: IdCounts) -> list[Finding]:
    """Finds ids that only line the edges of others: what interpolation or lossy compression leaves between ids."""
    square = np.ones((3, 3), np.uint8)
    inner = mask[cv2.erode(mask, square) == cv2.dilate(mask, square)]
    edges = np.flatnonzero((pixels > 0) & (np.bincount(inner, minlength=256) == 0))
    if len(edges) < _MIN_EDGE_IDS or not inner.size:
        return []
    listed = ", ".join(map(str, edges[:12])) + (", ..." if len(edges) > 12 else "")
    what = f"ids {listed} stand in lines and specks alone, as in a blurred (JPEG, resized) mask"
    fix = "export the mask from its source, without interpolation; if they are true specks, leave it"
    return [Finding(str(region.mask), what, fix)]


def _find_strange_colors(region: Region, image: RgbImage) -> list[Finding]:
    """Finds images that do not look like H&E: a plot, a photograph, a plain color, an empty part of a slide.

    Hematoxylin and eosin both absorb green the most (their optical densities in Ruifrok and Johnston 2001,
    "Quantification of histochemical staining by color deconvolution"), so that tissue is blue-purple to pink:
    in real H&E at least 0.96 of the colored pixels, in photographs 0.01 to 0.5.
    """
    step = max(1, round((image.shape[0] * image.shape[1]) ** 0.5 / _LOOK_SIDE_PX))
    density = -np.log10((image[::step, ::step].astype(np.float32) + 1) / 256)
    strongest = density.max(axis=2)
    stained = strongest > _STAINED_OD
    colored = stained & (strongest - density.min(axis=2) > _COLORED_OD)
    pink = colored & (density[..., 1] >= strongest - _GREEN_SLACK_OD)
    if stained.mean() < _MIN_STAINED:
        what = f"{1 - stained.mean():.0%} of it is as bright as empty glass: no tissue, or a plot"
    elif strongest.size >= _MIN_FLAT_PIXELS and np.ptp(density, axis=(0, 1)).max() < _FLAT_OD:
        what = "is of one color all over: no tissue"
    elif colored.sum() < _MIN_COLORED * stained.sum():
        what = "is gray: no H&E stain"
    elif (share := pink.sum() / colored.sum()) < _MIN_PINK:
        what = f"only {share:.0%} of its colored pixels are pink to purple, as H&E is: a photo or another stain"
    else:
        return []
    return [Finding(str(region.image), what, "take it out if it is no H&E tissue")]
