"""Lists the regions of a data set in the layout of BCSS, with their patients and the declared split.

BCSS: Amgad et al. 2019, "Structured crowdsourcing enables convolutional segmentation of histology images".
Layout: ``<root>/images/*`` and ``<root>/masks/*`` with equal stems, and an optional ``<root>/dataset.yaml``::

    name: my-set
    classes: {1: tumor, 2: stroma}          # id in the masks: name; without it the five BCSS classes
    background: [3, 4]                      # ids of no class, besides 0 (of BCSS's classes: besides its other ids)
    ignore: [255]                           # ids that are never scored
    split: {train: [a.png], val: [b.png], test: [c.png]}
    patients: {a.png: patient-1}            # without it by ``find_patient``; else each file is its own patient
    um_per_px: 0.25                         # or {a.png: 0.25}; without it from file names, then resolution tags
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.dataset_file import FILE, DatasetFile, normalize_name, read_dataset_file
from trainables.data.folders import IMAGE_SUFFIXES, MASK_SUFFIXES, find_unpaired, find_unread, list_folder
from trainables.data.patients import describe_doubts, find_patient, find_tcga_patient
from trainables.errors import DataError, Finding, suggest_name
from trainables.tiles.um_per_px import Scale, find_in_name

_BCSS_NAMES = (
    "outside tumor stroma lymphocyte necrosis glandular_secretions blood exclude metaplasia fat plasma_cells "
    "other_immune_infiltrate mucoid_material normal_acinus_or_duct lymphatics undetermined nerve skin_adnexa "
    "blood_vessel angioinvasion dcis other"
)
BCSS_IDS: Mapping[int, str] = dict(enumerate(_BCSS_NAMES.split()))
BCSS_CLASSES: Mapping[int, str] = {one: BCSS_IDS[one] for one in (1, 2, 3, 4, 18)}

MAX_COMPARISONS = 20_000  # of names, to find the nearest: 3 s


@dataclass(frozen=True)
class Region:
    """One region of interest: an image and its mask, one class id per pixel.

    Its name is the image's file name, in Unicode's composed form (NFC). Regions of one patient are not independent.
    The scale is that of ``dataset.yaml`` or of the name; it is unknown where only tags in the file may have it.
    """

    name: str
    image: Path
    mask: Path
    patient: str
    scale: Scale = Scale()


# Part, and a region's name or nothing -> the place's name in findings.
LocateSplit = Callable[[str, str], str]


def name_part(part: str, name: str = "") -> str:
    """Returns the name in findings of a part of a split that is in no file."""
    return f"split.{part}"


@dataclass(frozen=True)
class RegionSet:
    """The regions of one data set, not yet decoded.

    Attributes:
        name: Its own name, or its folder's.
        root: Its folder, absolute.
        classes: Class id in the masks -> class name, in the order of the ids.
        ignore_ids: Ids whose pixels are neither scored nor trained on, ascending.
        regions: Sorted by name.
        declared_split: Part -> image file names as ``dataset.yaml`` has them, unchecked; None without.
        background_ids: Ids that ``dataset.yaml`` lists as no class, ascending; see ``known_ids`` for others.
        um_per_px: What ``dataset.yaml`` says of it: image file name, or "" for all others -> micrometres a pixel.
        locate_split: Returns the place of a part of the declared split, and of a region's name in it, for findings.
    """

    name: str
    root: Path
    classes: Mapping[int, str]
    ignore_ids: tuple[int, ...]
    regions: tuple[Region, ...]
    declared_split: Mapping[str, tuple[str, ...]] | None
    background_ids: tuple[int, ...] = ()
    um_per_px: Mapping[str, float] = field(default_factory=dict)
    locate_split: LocateSplit = field(default=name_part, compare=False, repr=False)

    @property
    def is_bcss(self) -> bool:
        """Whether the classes are the five scored ones of BCSS, so that its other ids are known too."""
        return dict(self.classes) == dict(BCSS_CLASSES)

    @property
    def known_ids(self) -> frozenset[int]:
        """Ids that masks may hold: classes, ignored, and background: 0, the listed ones, and all that BCSS defines."""
        own = BCSS_IDS.keys() if self.is_bcss else {0}
        return frozenset({*self.classes, *self.ignore_ids, *self.background_ids, *own})


@dataclass(frozen=True)
class RegionListing:
    """What the folders of a data set hold, usable or not.

    Attributes:
        regions: The images that have a mask; None if there are none. While there are findings, only to be checked.
        has_classes: Whether the classes are known: ``dataset.yaml`` has no findings about them.
        assumes_bcss: Whether the classes are those of BCSS for want of others.
        unpaired: Names of the images without a mask, sorted.
    """

    regions: RegionSet | None
    has_classes: bool
    unpaired: tuple[str, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    assumes_bcss: bool = False


def read_regions(root: Path) -> RegionSet:
    """Lists the regions of a folder with ``images/``, ``masks/`` and perhaps ``dataset.yaml``; decodes no pixels.

    Raises:
        DataError: With every problem of the folders, the file names and ``dataset.yaml``.
    """
    listing = list_regions(root)
    if listing.findings:
        raise DataError(listing.findings)
    assert listing.regions is not None, "a data set without pairs has a finding"
    return listing.regions


def list_regions(root: Path) -> RegionListing:
    """Lists the regions of a data set as far as possible. Raises nothing: problems are findings.

    The pixels of the existing pairs can then be checked before the others are mended.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        what, fix = "there is no such folder", "give the folder that holds images/ and masks/: --data DIR"
        return RegionListing(None, True, (), (Finding(str(root), what, fix),), ())
    findings: list[Finding] = []
    images = list_folder(root / "images", IMAGE_SUFFIXES, findings)
    masks = list_folder(root / "masks", MASK_SUFFIXES, findings)
    if images and masks:
        if not images.files:
            fix = "put the images there" + ", not into folders below it" * bool(images.below)
            findings.append(Finding(str(images.path), "holds no PNG, JPEG or TIFF", fix))
        findings += find_unpaired(images, masks, "mask", MASK_SUFFIXES)
        findings += find_unpaired(masks, images, "image", IMAGE_SUFFIXES)
    image_of, mask_of = (folder.files if folder else {} for folder in (images, masks))
    pairs = [(image_of[stem], mask_of[stem]) for stem in sorted(image_of.keys() & mask_of.keys())]
    settings = read_dataset_file(root, BCSS_CLASSES, findings)
    patients = _find_patients([normalize_name(path.name) for path in image_of.values()], settings, findings)
    warnings = [warning for folder in (images, masks) if folder for warning in find_unread(folder)]
    fix = "correct `patients` in dataset.yaml, or the names; leaks are looked for by patients and by barcodes"
    warnings += settings.warnings
    warnings += (Finding(settings.locate("patients"), doubt, fix) for doubt in describe_doubts(patients))
    if not pairs and not findings:
        findings.append(Finding(str(root), "has no image with a mask", "their names must be equal up to the suffix"))
    return RegionListing(
        regions=_make_set(root, pairs, settings, patients) if pairs else None,
        has_classes=settings.has_classes,
        unpaired=tuple(sorted(normalize_name(image_of[stem].name) for stem in image_of.keys() - mask_of.keys())),
        findings=tuple(findings),
        warnings=tuple(warnings),
        assumes_bcss=settings.has_classes and settings.classes is None,
    )


def _make_set(
    root: Path, pairs: Iterable[tuple[Path, Path]], settings: DatasetFile, patients: Mapping[str, str]
) -> RegionSet:
    classes = BCSS_CLASSES if settings.classes is None else settings.classes
    ignore_ids = settings.ignore_ids
    if ignore_ids is None:
        is_ignored = dict(classes) == dict(BCSS_CLASSES) and 0 not in settings.background_ids
        ignore_ids = (0,) if is_ignored else ()
    named = ((normalize_name(image.name), image, mask) for image, mask in pairs)
    regions = (Region(name, image, mask, patients[name], _find_scale(name, settings)) for name, image, mask in named)
    return RegionSet(
        name=settings.name or root.name,
        root=root,
        classes=dict(sorted(classes.items())),
        ignore_ids=ignore_ids,
        regions=tuple(sorted(regions, key=lambda region: region.name)),
        declared_split=settings.split,
        background_ids=settings.background_ids,
        um_per_px=settings.um_per_px,
        locate_split=settings.locate_split,
    )


def _find_scale(name: str, settings: DatasetFile) -> Scale:
    declared = settings.um_per_px.get(name, settings.um_per_px.get(""))
    return find_in_name(name) if declared is None else Scale(declared, FILE)


def _find_patients(names: Iterable[str], settings: DatasetFile, findings: list[Finding]) -> dict[str, str]:
    """Returns file name -> patient; appends declared names that are no image, and barcodes that contradict names."""
    patients = {}
    declared = settings.patients or {}
    for name in names:
        patients[name] = find_patient(name, declared.get(name, "")) or Path(name).stem
        shown = find_tcga_patient(name)
        if shown and name in declared and find_tcga_patient(declared[name]) not in (None, shown):
            what = f"is {declared[name]}, but the file's name says {shown}"
            findings.append(Finding(settings.locate("patients", name), what, "correct one of them"))
    named = [("patients", name) for name in declared] + [("um_per_px", name) for name in settings.um_per_px if name]
    strangers = [(key, name) for key, name in named if name not in patients]
    is_cheap = len(strangers) * len(patients) <= MAX_COMPARISONS
    for key, name in strangers:
        fix = suggest_name(name, patients) if is_cheap else "correct or remove it"
        findings.append(Finding(settings.locate(key, name), "there is no such image", fix))
    return patients
