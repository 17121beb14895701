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
import os
import re
from collections import Counter, defaultdict
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

_MAX_YAML_BYTES = 64_000_000  # 100,000 regions with their split and patients take a fifth of it
_MAX_YAML_DEPTH = 8
_MAX_COMPARISONS = 20_000  # of names, in search of the nearest: 3 s
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
    """The files of ``images/`` or ``masks/``: what can be read by stem, and the others."""

    files: Mapping[str, Path]
    others: Mapping[str, Path]


@dataclass(frozen=True)
class _Settings:
    """What ``dataset.yaml`` says; the defaults are those of a folder without one."""

    name: str | None = None
    classes: Mapping[int, str] | None = None
    has_classes: bool = True
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
            findings.append(Finding(str(root / "images"), "holds no PNG, JPEG or TIFF", "put the images there"))
        _append_unpaired(images, masks, "mask", _MASK_SUFFIXES, findings)
        _append_unpaired(masks, images, "image", _IMAGE_SUFFIXES, findings)
    image_of, mask_of = (folder.files if folder else {} for folder in (images, masks))
    pairs = [(image_of[stem], mask_of[stem]) for stem in sorted(image_of.keys() & mask_of.keys())]
    settings = _read_settings(root, findings)
    patients = _find_patients([path.name for path in image_of.values()], settings.patients or {}, root, findings)
    if not pairs and not findings:
        findings.append(Finding(str(root), "has no image with a mask", "their names must be equal up to the suffix"))
    return RegionListing(
        regions=_make_set(root, pairs, settings, patients) if pairs else None,
        has_classes=settings.has_classes,
        unpaired=tuple(sorted(image_of[stem].name for stem in image_of.keys() - mask_of.keys())),
        findings=tuple(findings),
        warnings=tuple(_find_unread(images, masks)),
    )


def _make_set(
    root: Path, pairs: Iterable[tuple[Path, Path]], settings: _Settings, patients: Mapping[str, str]
) -> RegionSet:
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


def _append_unpaired(
    folder: _Folder, partners: _Folder, kind: str, suffixes: frozenset[str], findings: list[Finding]
) -> None:
    """Appends each file without a partner of its stem, and the nearest there is: of another case or suffix."""
    folded = {stem.casefold(): path for stem, path in partners.files.items()}
    for stem in sorted(folder.files.keys() - partners.files.keys()):
        what, fix = f"has no {kind}", f"add {kind}s/{stem} as one of {', '.join(sorted(suffixes))}"
        if twin := folded.get(stem.casefold()):
            what, fix = f"{what}; {twin.name} differs in case", f"rename {twin.name}"
        elif other := partners.others.get(stem):
            lossy = kind == "mask" and other.suffix.lower() in _IMAGE_SUFFIXES
            why = "is JPEG, which alters class ids" if lossy else f"is none of {', '.join(sorted(suffixes))}"
            what, fix = f"{what}; {other.name} {why}", f"export the {kind} as PNG" + " from its source" * lossy
        findings.append(Finding(str(folder.files[stem]), what, fix))


def _list_files(folder: Path, suffixes: frozenset[str], findings: list[Finding]) -> _Folder | None:
    """Lists a folder, hidden files left out; appends a missing folder and names that cannot be used."""
    if not folder.is_dir():
        findings.append(Finding(str(folder), "there is no such folder", "the layout is images/ and masks/"))
        return None
    try:
        with os.scandir(folder) as entries:  # four times as fast as iterdir on 100,000 files
            names = sorted(entry.name for entry in entries if not (entry.name.startswith(".") or entry.is_dir()))
    except OSError as error:
        what = f"cannot be listed ({error.strerror or error})"
        findings.append(Finding(str(folder), what, "check the folder's rights"))
        return None
    paths = [folder / name for name in names]
    alike: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if not path.name.isprintable():  # bytes that are no UTF-8 too: they would break screens and records
            shown = ascii(path.name)
            findings.append(Finding(f"{folder}/{shown}", "the name is no printable text", "rename the file"))
        elif path.suffix.lower() in suffixes:
            alike[path.stem.casefold()].append(path)
    for same in alike.values():
        if len(same) > 1:
            rule = "share one stem" if len({path.stem for path in same}) == 1 else "differ in case only"
            what = f"{', '.join(path.name for path in same)} {rule}"
            findings.append(Finding(str(same[0]), what, "keep one, or rename the others"))
    files = {path.stem: path for same in alike.values() for path in same}
    return _Folder(files, {path.stem: path for path in paths if path.suffix.lower() not in suffixes})


def _find_unread(*folders: _Folder | None) -> Iterable[Finding]:
    """Finds folders with files of other kinds: a slide among the images may have been meant."""
    for folder in folders:
        if folder and (others := sorted(path.name for path in folder.others.values() if path.name.isprintable())):
            first = next(iter(folder.others.values()))
            names = ", ".join(others[:4]) + f", and {len(others) - 4} more" * (len(others) > 4)
            what = f"{len(others)} file{'s' * (len(others) > 1)} of another kind not read: {names}"
            yield Finding(str(first.parent), what, "convert what is meant as data; remove the rest")


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
        content = _load_yaml(path)
    except Exception as error:  # on broken tags the loader raises almost anything, AttributeError too
        what = " ".join((str(error) or type(error).__name__).split())
        tell("", f"cannot be read: {_shorten(what)}", "correct it")
        return _Settings(has_classes=False)
    if content is None:
        return _Settings()
    if not isinstance(content, dict):
        tell("", "is no mapping", f"its keys may be {', '.join(_KEYS)}")
        return _Settings(has_classes=False)
    for key in content:
        if key not in _KEYS:
            tell(_shorten(str(key)), "unknown key", _suggest(key, _KEYS))
    n_told = len(findings)
    name, classes = content.get("name"), _read_classes(content.get("classes"), tell)
    has_classes = len(findings) == n_told and not any(_is_near(key, "classes") for key in content)
    return _Settings(
        name=None if name is None else str(name),
        classes=classes,
        has_classes=has_classes,
        ignore_ids=_read_ignore(content.get("ignore"), classes or BCSS_CLASSES, tell),
        split=_read_split(content.get("split"), tell),
        patients=_read_patients(content.get("patients"), tell),
    )


def _load_yaml(path: Path) -> Any:
    """Reads a YAML file of bounded size, depth and effort.

    Raises:
        ValueError: If it is no plain file, too large, nested too deeply, or has aliases (a few nested ones stand
            for gigabytes) or keys that stand twice.
        OSError: If it cannot be read.
        yaml.YAMLError: If it is not YAML. Broken tags raise nearly anything else.
    """
    if not path.is_file():
        raise ValueError("it is no plain file")
    if (n_bytes := path.stat().st_size) > _MAX_YAML_BYTES:
        raise ValueError(f"it has {n_bytes:,} bytes, more than {_MAX_YAML_BYTES:,}")
    # The C loader reads a split of 100,000 names in a second, the other in a minute.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8-sig"))
    try:
        top = loader.get_single_node()
        if top is None:
            return None
        if problems := list(_find_node_problems(top)):
            raise ValueError("; ".join(problems[:5]))
        return loader.construct_document(top)
    finally:
        loader.dispose()


def _find_node_problems(top: yaml.Node) -> Iterable[str]:
    """Finds aliases, keys that stand twice and deep nesting, without recursion."""
    seen: set[int] = set()
    waiting = [(top, 0)]
    while waiting:
        node, depth = waiting.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            yield f"the value of line {line} is used again by an alias (*name): write it out"
            continue
        seen.add(id(node))
        if depth > _MAX_YAML_DEPTH:
            yield f"line {line} is nested more than {_MAX_YAML_DEPTH} levels deep"
        elif isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice = [_shorten(key) for key, number in keys.items() if number > 1]
            yield from (f"key {key} stands more than once in the mapping of line {line}" for key in twice)
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]


def _read_classes(given: Any, tell: _Tell) -> Mapping[int, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        tell("classes", f"is {_show(given)}", "write id and name of each: {1: tumor, 2: stroma}")
        return None
    good: dict[int, str] = {}
    for one, name in given.items():
        key = f"classes.{one}"
        if not _is_id(one):
            tell(key, "the id is no whole number in 0..255", "write the id that the masks hold")
        elif not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
            tell(key, f"the name is {_show(name)}", "use letters, digits, _ . - and spaces; quote yes and no")
        elif name in good.values():
            tell(key, f"another class is called {name} too", "rename one")
        else:
            good[one] = name
    return good


def _read_ignore(given: Any, classes: Mapping[int, str], tell: _Tell) -> tuple[int, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(_is_id(one) for one in given):
        tell("ignore", f"is {_show(given)}", "write a list of ids in 0..255, such as [0]")
        return None
    for one in sorted(set(given) & classes.keys()):
        tell("ignore", f"{one} is also the class {classes[one]}", "score it or ignore it")
    return tuple(sorted(set(given)))


def _read_split(given: Any, tell: _Tell) -> Mapping[str, tuple[str, ...]] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        tell("split", f"is {_show(given)}", f"write a list of image file names under each of {', '.join(PARTS)}")
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
        tell("patients", f"is {_show(given)}", "write file and patient of each: {a.png: patient-1}")
        return None
    for name, patient in given.items():
        if patient is None or isinstance(patient, (dict, list)):
            tell(f"patients.{name}", f"is {_show(patient)}", "write the patient's name or number")
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
    strangers = [name for name in declared if name not in patients]
    for number, name in enumerate(strangers):
        is_cheap = (number + 1) * len(patients) <= _MAX_COMPARISONS
        fix = _suggest(name, patients) if is_cheap else "correct or remove it"
        findings.append(Finding(f"{where}.{_shorten(name)}", "there is no such image", fix))
    return patients


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255  # not isinstance: True is an int too


def _is_near(key: Any, known: str) -> bool:
    """Says whether a key is another one misspelled."""
    return key != known and bool(difflib.get_close_matches(str(key), [known], n=1))


def _show(value: Any) -> str:
    return _shorten(repr(value))


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def _suggest(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(str(given), known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(known)}" if len(known) <= len(_KEYS) else "correct or remove it"
