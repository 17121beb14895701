"""The BCSS layout on disk: which regions there are, whose they are, and which split the data declare.

BCSS: Amgad et al. 2019, "Structured crowdsourcing enables convolutional segmentation of histology images".
Layout: ``<root>/images/*`` and ``<root>/masks/*`` with equal stems, and an optional ``<root>/dataset.yaml``::

    name: my-set
    classes: {1: tumor, 2: stroma}          # id in the masks: name; without it the five BCSS classes
    background: [3, 4]                      # ids of no class, besides 0 (of BCSS's classes: besides its other ids)
    ignore: [255]                           # ids that are never scored
    split: {train: [a.png], val: [b.png], test: [c.png]}
    patients: {a.png: patient-1}            # without it a TCGA barcode tells, or each file is its own patient
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.dataset_file import DatasetFile, normalize_name, read_dataset_file
from trainables.errors import DataError, Finding, suggest_name

_BCSS_NAMES = (
    "outside tumor stroma lymphocyte necrosis glandular_secretions blood exclude metaplasia fat plasma_cells "
    "other_immune_infiltrate mucoid_material normal_acinus_or_duct lymphatics undetermined nerve skin_adnexa "
    "blood_vessel angioinvasion dcis other"
)
BCSS_IDS: Mapping[int, str] = dict(enumerate(_BCSS_NAMES.split()))
BCSS_CLASSES: Mapping[int, str] = {one: BCSS_IDS[one] for one in (1, 2, 3, 4, 18)}

_MAX_COMPARISONS = 20_000  # of names, in search of the nearest: 3 s
_ADDITION = re.compile(r"(?<=\w)[^\w]+\w*$|(?<=[^_])_[^\W_]+$")  # to a stem: r03_mask, r03-gt, r03.png, or a blank
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
_TCGA_PATIENT = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Za-z0-9])")
_DEMO_PATIENT = re.compile(r"demo-P\d+(?=-R\d+\.)")


@dataclass(frozen=True)
class Region:
    """One region of interest: an image and its mask.

    Attributes:
        name: The image's file name, in Unicode's composed form (NFC).
        image: The image file.
        mask: The mask file, one class id a pixel.
        patient: Whose tissue it is; regions of one patient are not independent.
    """

    name: str
    image: Path
    mask: Path
    patient: str


# Part, and a region's name or nothing -> what findings call the place.
LocateSplit = Callable[[str, str], str]


def name_part(part: str, name: str = "") -> str:
    """Returns what findings call a part of a split that stands in no file."""
    return f"split.{part}"


@dataclass(frozen=True)
class RegionSet:
    """The regions of one data set, not yet decoded.

    Attributes:
        name: What the data set calls itself, or its folder's name.
        root: Its folder, absolute.
        classes: Class id in the masks -> class name, in the order of the ids.
        ignore_ids: Ids whose pixels are neither scored nor trained on, ascending.
        regions: Sorted by name.
        declared_split: Part -> image file names as ``dataset.yaml`` has them, unchecked; None without.
        background_ids: Ids that ``dataset.yaml`` says stand for no class, ascending; others do so by themselves.
        locate_split: Names the place of a part of the declared split, and of a region's name in it, for findings.
    """

    name: str
    root: Path
    classes: Mapping[int, str]
    ignore_ids: tuple[int, ...]
    regions: tuple[Region, ...]
    declared_split: Mapping[str, tuple[str, ...]] | None
    background_ids: tuple[int, ...] = ()
    locate_split: LocateSplit = field(default=name_part, compare=False, repr=False)

    @property
    def is_bcss(self) -> bool:
        """Whether the classes are the five scored ones of BCSS, so that its other ids have a meaning too."""
        return dict(self.classes) == dict(BCSS_CLASSES)

    @property
    def known_ids(self) -> frozenset[int]:
        """What masks may hold: classes, ignored ids, and background: 0, what is listed, and all that BCSS defines."""
        own = BCSS_IDS.keys() if self.is_bcss else {0}
        return frozenset({*self.classes, *self.ignore_ids, *self.background_ids, *own})


@dataclass(frozen=True)
class RegionListing:
    """What the folders of a data set hold, sound or not.

    Attributes:
        regions: The images that have a mask; None where there are none. Of use to look at alone while there are
            findings.
        has_classes: Whether the classes are known; not where ``dataset.yaml`` is at fault about them.
        unpaired: Names of the images without a mask, sorted.
        findings: What makes the data set unusable.
        warnings: What is worth a look, but stops nothing.
    """

    regions: RegionSet | None
    has_classes: bool
    unpaired: tuple[str, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Folder:
    """What is in ``images/`` or ``masks/``: files that can be read and others by composed (NFC) stem, and folders."""

    files: Mapping[str, Path]
    others: Mapping[str, Path]
    below: tuple[str, ...]


def find_tcga_patient(name: str) -> str | None:
    """Returns the first three fields of a TCGA barcode (``TCGA-A1-A0SK``), or None if the name has none."""
    match = _TCGA_PATIENT.match(name)
    return match.group() if match else None


def find_tcga_hospital(patient: str) -> str | None:
    """Returns the second field of a TCGA barcode (``A1``: where the tissue was taken), or None without one."""
    barcode = find_tcga_patient(patient)
    return barcode.split("-")[1] if barcode else None


def read_regions(root: Path) -> RegionSet:
    """Lists the regions of a data set; decodes no pixels.

    Args:
        root: A folder with ``images/`` and ``masks/``, and perhaps ``dataset.yaml``.

    Raises:
        DataError: With every problem of the folders, the file names and ``dataset.yaml``.
    """
    listing = list_regions(root)
    if listing.findings:
        raise DataError(listing.findings)
    assert listing.regions is not None, "that there is no pair is a finding"
    return listing.regions


def list_regions(root: Path) -> RegionListing:
    """Lists the regions of a data set as far as they can be told. Raises nothing: problems are findings.

    So that the pixels of the pairs that exist can be looked at before the others are mended.

    Args:
        root: As ``read_regions`` wants it.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        what, fix = "there is no such folder", "give the folder that holds images/ and masks/"
        return RegionListing(None, True, (), (Finding(str(root), what, fix),), ())
    findings: list[Finding] = []
    images = _list_files(root / "images", _IMAGE_SUFFIXES, findings)
    masks = _list_files(root / "masks", _MASK_SUFFIXES, findings)
    if images and masks:
        if not images.files:
            fix = "put the images there" + ", not into folders below it" * bool(images.below)
            findings.append(Finding(str(root / "images"), "holds no PNG, JPEG or TIFF", fix))
        _append_unpaired(images, masks, "mask", _MASK_SUFFIXES, findings)
        _append_unpaired(masks, images, "image", _IMAGE_SUFFIXES, findings)
    image_of, mask_of = (folder.files if folder else {} for folder in (images, masks))
    pairs = [(image_of[stem], mask_of[stem]) for stem in sorted(image_of.keys() & mask_of.keys())]
    settings = read_dataset_file(root, BCSS_CLASSES, findings)
    patients = _find_patients([normalize_name(path.name) for path in image_of.values()], settings, findings)
    if not pairs and not findings:
        findings.append(Finding(str(root), "has no image with a mask", "their names must be equal up to the suffix"))
    return RegionListing(
        regions=_make_set(root, pairs, settings, patients) if pairs else None,
        has_classes=settings.has_classes,
        unpaired=tuple(sorted(normalize_name(image_of[stem].name) for stem in image_of.keys() - mask_of.keys())),
        findings=tuple(findings),
        warnings=tuple(_find_unread(images, masks)),
    )


def _make_set(
    root: Path, pairs: Iterable[tuple[Path, Path]], settings: DatasetFile, patients: Mapping[str, str]
) -> RegionSet:
    classes = BCSS_CLASSES if settings.classes is None else settings.classes
    ignore_ids = settings.ignore_ids
    if ignore_ids is None:
        ignore_ids = (0,) if dict(classes) == dict(BCSS_CLASSES) else ()
    named = ((normalize_name(image.name), image, mask) for image, mask in pairs)
    regions = (Region(name, image, mask, patients[name]) for name, image, mask in named)
    return RegionSet(
        name=settings.name or root.name,
        root=root,
        classes=dict(sorted(classes.items())),
        ignore_ids=ignore_ids,
        regions=tuple(sorted(regions, key=lambda region: region.name)),
        declared_split=settings.split,
        background_ids=settings.background_ids,
        locate_split=settings.locate_split,
    )


def _append_unpaired(
    folder: _Folder, partners: _Folder, kind: str, suffixes: frozenset[str], findings: list[Finding]
) -> None:
    """Appends each file without a partner of its stem, and the nearest there is: of another case or suffix."""
    folded = {stem.casefold(): path for stem, path in partners.files.items()}
    lonely = {stem: partners.files[stem] for stem in partners.files.keys() - folder.files.keys()}
    longer = {_ADDITION.sub("", stem): path for stem, path in lonely.items()}
    for stem in sorted(folder.files.keys() - partners.files.keys()):
        what, fix = f"has no {kind}", f"add {kind}s/{stem} as one of {', '.join(sorted(suffixes))}"
        if twin := folded.get(stem.casefold()):
            what, fix = f"{what}; {twin.name} differs in case", f"rename {twin.name}"
        elif other := partners.others.get(stem):
            lossy = kind == "mask" and other.suffix.lower() in _IMAGE_SUFFIXES
            why = "is JPEG, which alters class ids" if lossy else f"is none of {', '.join(sorted(suffixes))}"
            what, fix = f"{what}; {other.name} {why}", f"export the {kind} as PNG" + " from its source" * lossy
        elif near := longer.get(stem) or lonely.get(_ADDITION.sub("", stem)):
            what, fix = f"{what}; is it {near.name}?", "give both one name, up to the suffix"
        findings.append(Finding(str(folder.files[stem]), what, fix))


def _list_files(folder: Path, suffixes: frozenset[str], findings: list[Finding]) -> _Folder | None:
    """Lists a folder, hidden files left out; appends a missing folder and names that cannot be used."""
    if not folder.is_dir():
        what = "is no folder" if os.path.lexists(folder) else "there is no such folder"
        findings.append(Finding(str(folder), what, "the layout is images/ and masks/"))
        return None
    try:
        with os.scandir(folder) as entries:  # four times as fast as iterdir on 100,000 files
            kinds = {entry.name: _is_folder(entry) for entry in entries if not entry.name.startswith(".")}
    except OSError as error:
        what = f"cannot be listed ({error.strerror or error})"
        findings.append(Finding(str(folder), what, "check the folder's rights"))
        return None
    names = sorted(name for name, is_folder in kinds.items() if not is_folder)
    paths = [folder / name for name in names]
    alike: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if not path.name.isprintable():  # bytes that are no UTF-8 too: they would break screens and records
            shown = ascii(path.name)
            findings.append(Finding(f"{folder}/{shown}", "the name is no printable text", "rename the file"))
        elif path.suffix.lower() in suffixes:
            alike[normalize_name(path.stem).casefold()].append(path)
    for same in alike.values():
        if len(same) > 1:
            findings.append(Finding(str(same[0]), _describe_alike(same), "keep one, or rename the others"))
    files = {normalize_name(path.stem): path for same in alike.values() for path in same}
    others = {normalize_name(path.stem): path for path in paths if path.suffix.lower() not in suffixes}
    return _Folder(files, others, tuple(sorted(kinds.keys() - set(names))))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: its reading tells
        return False


def _describe_alike(same: list[Path]) -> str:
    """Says how files have one name: on another disk one of them would be lost."""
    names = ", ".join(path.name for path in same)
    if len({path.stem for path in same}) == 1:
        return f"{names} share one stem"
    if len({normalize_name(path.stem) for path in same}) > 1:
        return f"{names} differ in case only"
    spelled = ", ".join(ascii(path.name) for path in same)
    return f"{names} look the same: they differ in their Unicode form only ({spelled})"


def _find_unread(*folders: _Folder | None) -> Iterable[Finding]:
    """Finds files of other kinds and folders below: a slide among the images, or part of them, may have been meant."""
    for folder in folders:
        if folder and folder.below and folder.files:
            names = ", ".join(map(ascii, folder.below[:4])) + ", ..." * (len(folder.below) > 4)
            where = str(next(iter(folder.files.values())).parent)
            fix = "move what is meant as data up; remove the rest"
            yield Finding(where, f"folders below it are not read: {names}", fix)
        if folder and (others := sorted(path.name for path in folder.others.values() if path.name.isprintable())):
            first = next(iter(folder.others.values()))
            names = ", ".join(others[:4]) + f", and {len(others) - 4} more" * (len(others) > 4)
            what = f"{len(others)} file{'s' * (len(others) > 1)} of another kind not read: {names}"
            yield Finding(str(first.parent), what, "convert what is meant as data; remove the rest")


def _find_patients(
    names: Iterable[str], settings: DatasetFile, findings: list[Finding]
) -> dict[str, str]:
    """Returns file name -> patient; appends declared names that are no image, or that the name denies."""
    patients = {}
    declared = settings.patients or {}
    for name in names:
        demo = _DEMO_PATIENT.match(name)
        told = find_tcga_patient(name) or (demo.group() if demo else None)
        patients[name] = told or declared.get(name, Path(name).stem)
        if declared.get(name, patients[name]) != patients[name]:
            what = f"is {declared[name]}, but the file's name says {told}"
            findings.append(Finding(settings.locate("patients", name), what, "correct one of them"))
    strangers = [name for name in declared if name not in patients]
    for number, name in enumerate(strangers):
        is_cheap = (number + 1) * len(patients) <= _MAX_COMPARISONS
        fix = suggest_name(name, patients) if is_cheap else "correct or remove it"
        findings.append(Finding(settings.locate("patients", name), "there is no such image", fix))
    return patients
