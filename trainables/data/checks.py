"""What one decoding pass tells about each region: its pixels, what is wrong with them, and its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from trainables.data.bcss import BCSS_IDS, Region, RegionSet
from trainables.data.images import IdMask, RgbImage, decode_image, decode_mask, read_bytes
from trainables.data.splits import Split, find_split_problems
from trainables.errors import DataError, Finding

IdCounts = Int64[np.ndarray, "256"]


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
        findings: What makes it unusable.
        warnings: What is worth a look, but stops nothing.
    """

    region: Region
    image: RgbImage | None
    mask: IdMask | None
    sha256: tuple[str, str]
    pixel_digest: str
    pixels: IdCounts
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


def decode_region(region: Region, regions: RegionSet) -> DecodedRegion:
    """Reads a region's two files, each once, and checks them. Raises nothing: problems are findings."""
    findings: list[Finding] = []
    image: RgbImage | None = None
    mask: IdMask | None = None
    image_sha256 = mask_sha256 = ""
    try:
        data = read_bytes(region.image)
        image_sha256 = hashlib.sha256(data).hexdigest()
        image = decode_image(data, str(region.image))
    except DataError as error:
        findings += error.findings
    try:
        data = read_bytes(region.mask)
        mask_sha256 = hashlib.sha256(data).hexdigest()
        mask = decode_mask(data, str(region.mask))
    except DataError as error:
        findings += error.findings
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        findings.append(_describe_sizes(region, image, mask))
    pixels = np.zeros(256, np.int64) if mask is None else np.bincount(mask.ravel(), minlength=256)
    findings += _check_ids(region, regions, pixels)
    return DecodedRegion(
        region=region,
        image=image,
        mask=mask,
        sha256=(image_sha256, mask_sha256),
        pixel_digest="" if image is None else digest_pixels(image),
        pixels=pixels.astype(np.int64, copy=False),
        findings=tuple(findings),
        warnings=tuple(_find_unknown_ids(region, regions, pixels)),
    )


def examine_regions(regions: RegionSet) -> RegionReport:
    """Decodes every region, one at a time in memory, and gathers what ``decode_region`` tells."""
    findings: list[Finding] = []
    warnings: list[Finding] = []
    presence: dict[str, frozenset[int]] = {}
    for region in regions.regions:
        decoded = decode_region(region, regions)
        findings += decoded.findings
        warnings += decoded.warnings
        if not decoded.findings:
            presence[region.name] = frozenset(one for one in regions.classes if decoded.pixels[one])
    return RegionReport(sort_findings(findings), sort_findings(warnings), presence)


def check_regions(regions: RegionSet, split: Split | None = None) -> list[Finding]:
    """Returns everything that would stop a run on these regions, and on this split of them, sorted by file.

    A caller that builds a ``RegionStore`` anyway need not call this: the build tells the same findings.
    """
    findings = list(examine_regions(regions).findings)
    if split is not None:
        names = [region.name for region in regions.regions]
        findings += find_split_problems(names, split.parts, str(regions.root))
    return list(sort_findings(findings))


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


def _check_ids(region: Region, regions: RegionSet, pixels: IdCounts) -> list[Finding]:
    """Finds a mask without any class; an undecoded mask, without any id, has been told already."""
    ids = [int(one) for one in np.flatnonzero(pixels)]
    if not ids or any(one in regions.classes for one in ids):
        return []
    wanted = ", ".join(f"{one} {name}" for one, name in regions.classes.items())
    if 255 in ids and set(ids) <= {0, 255}:
        return [Finding(str(region.mask), "looks like 0/255", f"divide it by 255; the classes are {wanted}")]
    found = ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")
    fix = f"the classes are {wanted}: correct the mask or `classes`, or take the region out"
    return [Finding(str(region.mask), f"holds none of the classes, only ids {found}", fix)]


def _find_unknown_ids(region: Region, regions: RegionSet, pixels: IdCounts) -> list[Finding]:
    if not regions.is_bcss:
        return []  # other data sets need not list the ids that they do not score
    known = BCSS_IDS.keys() | set(regions.ignore_ids)
    unknown = [f"{one} ({pixels[one]} pixels)" for one in np.flatnonzero(pixels) if int(one) not in known]
    if not unknown:
        return []
    what = f"holds ids that BCSS does not define: {', '.join(unknown)}"
    fix = "they count as background; list them under `ignore` to leave them out"
    return [Finding(str(region.mask), what, fix)]
