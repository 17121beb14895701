"""The BCSS layout on disk: which regions there are, whose they are, and which split the data declare.

BCSS: Amgad et al. 2019, "Structured crowdsourcing enables convolutional segmentation of histology images".
Layout: ``<root>/images/*`` and ``<root>/masks/*`` with equal stems, and an optional ``<root>/dataset.yaml``::

    name: my-set
    classes: {1: tumor, 2: stroma}          # id in the masks: name; without it the five BCSS classes
    ignore: [0]                             # ids that are never scored
    split: {train: [a.png], val: [b.png], test: [c.png]}
    patients: {a.png: patient-1}            # without it a TCGA barcode tells, or each file is its own patient
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import DataError, Finding

_Tell = Callable[[str, str, str], None]  # key, what is wrong, what to do

PARTS = ("train", "val", "test")
_BCSS_NAMES = (
    "outside tumor stroma lymphocyte necrosis glandular_secretions blood exclude metaplasia fat plasma_cells "
    "other_immune_infiltrate mucoid_material normal_acinus_or_duct lymphatics undetermined nerve skin_adnexa "
    "blood_vessel angioinvasion dcis other"
)
BCSS_IDS: Mapping[int, str] = dict(enumerate(_BCSS_NAMES.split()))
BCSS_CLASSES: Mapping[int, str] = {one: BCSS_IDS[one] for one in (1, 2, 3, 4, 18)}

_KEYS = ("name", "classes", "ignore", "split", "patients")
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
_TCGA_PATIENT = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Za-z0-9])")
_DEMO_PATIENT = re.compile(r"demo-P\d+(?=-R\d+\.)")
_CLASS_NAME = re.compile(r"[\w.\- ]+")  # what may stand in the name of a tracked metric


@dataclass(frozen=True)
class Region:
    """One region of interest: an image and its mask.

    Attributes:
        name: The image's file name.
        image: The image file.
        mask: The mask file, one class id a pixel.
        patient: Whose tissue it is; regions of one patient are not independent.
    """

    name: str
    image: Path
    mask: Path
    patient: str


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
    """

    name: str
    root: Path
    classes: Mapping[int, str]
    ignore_ids: tuple[int, ...]
    regions: tuple[Region, ...]
    declared_split: Mapping[str, tuple[str, ...]] | None

    @property
    def is_bcss(self) -> bool:
        """Whether the classes are the five scored ones of BCSS, so that its other ids have a meaning too."""
        return dict(self.classes) == dict(BCSS_CLASSES)


@dataclass(frozen=True)
class _Settings:
    """What ``dataset.yaml`` says; the defaults are those of a folder without one."""

    name: str | None = None
    classes: Mapping[int, str] | None = None
    ignore_ids: tuple[int, ...] | None = None
    split: Mapping[str, tuple[str, ...]] | None = None
    patients: Mapping[str, str] | None = None


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
    root = Path(root).resolve()
    if not root.is_dir():
        what, fix = "there is no such folder", "give the folder that holds images/ and masks/"
        raise DataError([Finding(str(root), what, fix)])
    findings: list[Finding] = []
    pairs = _pair_files(root, findings)
    settings = _read_settings(root, findings)
    patients = _find_patients([image.name for image, _ in pairs], settings.patients or {}, root, findings)
    if findings:
        raise DataError(findings)
    classes = BCSS_CLASSES if settings.classes is None else settings.classes
    ignore_ids = settings.ignore_ids
    if ignore_ids is None:
        ignore_ids = (0,) if dict(classes) == dict(BCSS_CLASSES) else ()
    regions = (Region(image.name, image, mask, patients[image.name]) for image, mask in pairs)
    return RegionSet(
        name=settings.name or root.name,
        root=root,
        classes=dict(sorted(classes.items())),
        ignore_ids=ignore_ids,
        regions=tuple(sorted(regions, key=lambda region: region.name)),
        declared_split=settings.split,
    )


def _pair_files(root: Path, findings: list[Finding]) -> list[tuple[Path, Path]]:
    """Pairs images with masks by stem; appends what does not pair."""
    images = _list_files(root / "images", _IMAGE_SUFFIXES, findings)
    masks = _list_files(root / "masks", _MASK_SUFFIXES, findings)
    if images is None or masks is None:
        return []
    if not images:
        findings.append(Finding(str(root / "images"), "holds no PNG, JPEG or TIFF", "put the images there"))
    _append_unpaired(images, masks, "mask", _MASK_SUFFIXES, findings)
    _append_unpaired(masks, images, "image", _IMAGE_SUFFIXES, findings)
    return [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]


def _append_unpaired(
    files: Mapping[str, Path],
    others: Mapping[str, Path],
    other_kind: str,
    suffixes: frozenset[str],
    findings: list[Finding],
) -> None:
    """Appends each file that has no counterpart of its stem, with a counterpart that differs in case only."""
    folded = {stem.casefold(): path for stem, path in others.items()}
    for stem in sorted(files.keys() - others.keys()):
        twin = folded.get(stem.casefold())
        what = f"has no {other_kind}" + (f"; {twin.name} differs in case" if twin else "")
        fix = f"add {other_kind}s/{stem} as one of {', '.join(sorted(suffixes))}"
        findings.append(Finding(str(files[stem]), what, f"rename {twin.name}" if twin else fix))


def _list_files(folder: Path, suffixes: frozenset[str], findings: list[Finding]) -> dict[str, Path] | None:
    """Returns stem -> file, hidden files left out; appends a missing folder and stems that are not unique."""
    if not folder.is_dir():
        findings.append(Finding(str(folder), "there is no such folder", "the layout is images/ and masks/"))
        return None
    alike: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir():
            alike[path.stem.casefold()].append(path)
    for paths in alike.values():
        if len(paths) > 1:
            rule = "share one stem" if len({path.stem for path in paths}) == 1 else "differ in case only"
            what = f"{', '.join(path.name for path in paths)} {rule}"
            findings.append(Finding(str(paths[0]), what, "keep one, or rename the others"))
    return {path.stem: path for paths in alike.values() for path in paths}


def _read_settings(root: Path, findings: list[Finding]) -> _Settings:
    """Reads and checks ``dataset.yaml``; appends each problem and goes on without that key."""
    path = root / "dataset.yaml"

    def tell(key: str, what: str, fix: str) -> None:
        findings.append(Finding(f"{path} {key}".rstrip(), what, fix))

    if not path.exists():
        if (root / "dataset.yml").exists():
            findings.append(Finding(str(root / "dataset.yml"), "is not read", "rename it to dataset.yaml"))
        return _Settings()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:
        tell("", f"cannot be read: {' '.join(str(error).split())}", "correct it")
        return _Settings()
    if content is None:
        return _Settings()
    if not isinstance(content, dict):
        tell("", "is no mapping", f"its keys may be {', '.join(_KEYS)}")
        return _Settings()
    for key in content:
        if key not in _KEYS:
            tell(str(key), "unknown key", _suggest(key, _KEYS))
    name, classes = content.get("name"), _read_classes(content.get("classes"), tell)
    return _Settings(
        name=None if name is None else str(name),
        classes=classes,
        ignore_ids=_read_ignore(content.get("ignore"), classes or BCSS_CLASSES, tell),
        split=_read_split(content.get("split"), tell),
        patients=_read_patients(content.get("patients"), tell),
    )


def _read_classes(given: Any, tell: _Tell) -> Mapping[int, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        tell("classes", f"is {given!r}", "write id and name of each: {1: tumor, 2: stroma}")
        return None
    good: dict[int, str] = {}
    for one, name in given.items():
        key = f"classes.{one}"
        if not _is_id(one):
            tell(key, "the id is no whole number in 0..255", "write the id that the masks hold")
        elif not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
            tell(key, f"the name is {name!r}", "use letters, digits, _ . - and spaces; quote yes and no")
        elif name in good.values():
            tell(key, f"another class is called {name} too", "rename one")
        else:
            good[one] = name
    return good


def _read_ignore(given: Any, classes: Mapping[int, str], tell: _Tell) -> tuple[int, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(_is_id(one) for one in given):
        tell("ignore", f"is {given!r}", "write a list of ids in 0..255, such as [0]")
        return None
    for one in sorted(set(given) & classes.keys()):
        tell("ignore", f"{one} is also the class {classes[one]}", "score it or ignore it")
    return tuple(sorted(set(given)))


def _read_split(given: Any, tell: _Tell) -> Mapping[str, tuple[str, ...]] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        tell("split", f"is {given!r}", f"write a list of image file names under each of {', '.join(PARTS)}")
        return None
    split: dict[str, tuple[str, ...]] = dict.fromkeys(PARTS, ())
    for part, names in given.items():
        if part not in PARTS:
            tell(f"split.{part}", "unknown key", _suggest(part, PARTS))
        elif not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            tell(f"split.{part}", "is no list of file names", "write one; quote names that read as numbers")
        else:
            split[part] = tuple(names)
    return split


def _read_patients(given: Any, tell: _Tell) -> Mapping[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        tell("patients", f"is {given!r}", "write file and patient of each: {a.png: patient-1}")
        return None
    return {str(name): str(patient) for name, patient in given.items()}


def _find_patients(
    names: Iterable[str], declared: Mapping[str, str], root: Path, findings: list[Finding]
) -> dict[str, str]:
    """Returns file name -> patient; appends declared names that are no image, or that the name denies."""
    patients = {}
    where = f"{root / 'dataset.yaml'} patients"
    for name in names:
        demo = _DEMO_PATIENT.match(name)
        told = find_tcga_patient(name) or (demo.group() if demo else None)
        patients[name] = told or declared.get(name, Path(name).stem)
        if declared.get(name, patients[name]) != patients[name]:
            what = f"is {declared[name]}, but the file's name says {told}"
            findings.append(Finding(f"{where}.{name}", what, "correct one of them"))
    for name in declared:
        if name not in patients:
            findings.append(Finding(f"{where}.{name}", "there is no such pair", _suggest(name, patients)))
    return patients


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255  # not isinstance: True is an int too


def _suggest(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(str(given), known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(known)}" if len(known) <= len(_KEYS) else "correct or remove it"
