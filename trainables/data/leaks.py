"""Finds patients and pixels that the parts of a split share, and describes shared hospitals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from trainables.data.patients import find_tcga_hospital, find_tcga_patient
from trainables.data.regions import RegionSet
from trainables.data.splits import Split
from trainables.data.store import RegionStore
from trainables.errors import Finding, count_things, list_some

_ALLOW = "or pass --allow-leak, which marks every result"


def find_leaks(parts_of: Mapping[str, Sequence[str]], regions: RegionSet, store: RegionStore | None) -> list[Finding]:
    """Finds each patient, and each group of equal pixels, in more than one part of a split or of one fold.

    A TCGA barcode in the files' names is a patient too, whatever else the regions' patients are called.

    Equal pixels are found whatever the files' names and formats, also in turned and mirrored copies; not in copies
    that are scaled, lossily compressed or otherwise changed, and not in overlapping crops: declare those as one
    patient's. Regions in no part do not leak. Without a store, if files are unusable, only patients are compared.

    Returns:
        One finding per leak: patients by name, then pixels in the order of the regions.
    """
    patient_of = {region.name: region.patient for region in regions.regions}
    where = f"{regions.root} split"
    findings = []
    shown = {name: barcode for name in patient_of if (barcode := find_tcga_patient(name))}
    shared = _find_shared(parts_of, shown) | _find_shared(parts_of, patient_of)
    for patient, parts in sorted(shared.items()):
        what = f"patient {patient} stands in {len(parts)} parts: {_list_parts(parts)}"
        fix = f"put all regions of the patient in one part, {_ALLOW}"
        findings.append(Finding(where, what, fix))
    if store is None:
        return findings
    digest_of = {name: store.pixel_digests[store.index(name)] for names in parts_of.values() for name in names}
    for parts in sorted(_find_shared(parts_of, digest_of).values(), key=lambda parts: min(min(parts.values()))):
        patients = sorted({patient_of[name] for names in parts.values() for name in names})
        what = f"the same pixels, perhaps turned or mirrored, stand in {len(parts)} parts: {_list_parts(parts)}"
        what += f" (patient{'s' * (len(patients) > 1)} {list_some(patients)})"
        fix = f"keep one of the copies, give them one patient and part in dataset.yaml, {_ALLOW}"
        findings.append(Finding(where, what, fix))
    return findings


def find_duplicates(store: RegionStore) -> list[Finding]:
    """Finds regions that hold the same pixels under several names, in any parts: inside one they weigh double there."""
    by_digest: defaultdict[str, list[str]] = defaultdict(list)
    for name, digest in zip(store.names, store.pixel_digests, strict=True):
        by_digest[digest].append(name)
    fix = "keep one of them: each copy counts as a region of its own, in training and in every mean"
    return [
        Finding(first, f"the same pixels, perhaps turned or mirrored, as {list_some(copies)}", fix)
        for first, *copies in by_digest.values()
        if copies
    ]


def describe_hospitals(split: Split, regions: RegionSet) -> str:
    """Returns a sentence on the hospitals that parts share, and whether test shares any; empty if none are shared.

    A hospital's stain and scanner make its slides alike, so scores on a shared one flatter. That is no error: the
    recorded BCSS split shares hospitals between train and val by design, but none with test. The hospital is known
    for patients with a TCGA barcode.
    """
    hospitals = {region.name: find_tcga_hospital(f"{region.patient} {region.name}") for region in regions.regions}
    known = {name: hospital for name, hospital in hospitals.items() if hospital is not None}
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for hospital, parts in _find_shared(split.parts, known).items():
        groups[tuple(parts)].append(hospital)
    if not groups:
        return ""
    sentences = [
        f"{' and '.join(parts)} share {count_things(len(shared), 'hospital')} ({', '.join(shared)})"
        for parts, shared in sorted(groups.items())
    ]
    if known.keys() >= set(split.test) and not any("test" in parts for parts in groups):
        sentences.append("test shares none")
    return "; ".join(sentences) + "."


def _find_shared(parts_of: Mapping[str, Sequence[str]], key_of: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Returns the keys that occur in several parts, sorted: key -> part -> names of its regions there, sorted."""
    found: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for part, names in parts_of.items():
        for name in sorted(names):
            if name in key_of:
                found[key_of[name]].setdefault(part, []).append(name)
    return {key: parts for key, parts in sorted(found.items()) if len(parts) > 1}


def _list_parts(parts: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{part} {list_some(names)}" for part, names in parts.items())
