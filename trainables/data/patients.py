"""Whose tissue a file shows: the patient that is declared, or the one that the file's name shows."""

import re
from collections.abc import Mapping
from pathlib import PurePath

from trainables.errors import list_some

# Anywhere, in any case: programs put words in front, R writes dots for dashes. All letters, as in TCGA-IB-AAUM, are a
# participant only from A on: tcga_he_tile is none.
_TCGA = re.compile(
    r"TCGA[\W_]([A-Z0-9]{2})[\W_]((?=A|[A-Z0-9]{0,3}[0-9])[A-Z0-9]{4})(?![A-Z0-9])", re.ASCII | re.IGNORECASE
)
_DEMO_PATIENT = re.compile(r"demo-P\d+(?=-R\d+\.)")


def list_tcga_patients(text: str) -> list[str]:
    """Returns the first three fields of each TCGA barcode in a text, as in ``TCGA-A1-A0SK``."""
    return [f"TCGA-{hospital}-{participant}".upper() for hospital, participant in _TCGA.findall(text)]


def find_tcga_patient(text: str) -> str | None:
    """Returns the first of ``list_tcga_patients``, or None if the text holds no barcode."""
    return next(iter(list_tcga_patients(text)), None)


def find_tcga_hospital(text: str) -> str | None:
    """Returns the second field of a TCGA barcode (``A1``: where the tissue was taken), or None without one."""
    barcode = find_tcga_patient(text)
    return barcode.split("-")[1] if barcode else None


def find_patient(name: str, declared: str = "") -> str | None:
    """Returns a file's patient: the declared one (of a barcode, its patient), else the one that the name shows."""
    if declared:
        return find_tcga_patient(declared) or declared
    demo = _DEMO_PATIENT.match(name)
    return find_tcga_patient(name) or (demo.group() if demo else None)


def describe_doubts(patient_of: Mapping[str, str]) -> list[str]:
    """Returns sentences on the files, here by name, whose names speak of another patient than their own."""
    barcodes = {name: list_tcga_patients(name) for name in patient_of}
    unused = [f"{name} (patient {one})" for name, one in patient_of.items() if {*barcodes[name]} - {one}]
    unread = [
        name
        for name, one in patient_of.items()
        if "tcga" in name.casefold() and not barcodes[name] and one == PurePath(name).stem
    ]
    found = (("hold a TCGA barcode that is not the patient", unused), ("speak of TCGA without a barcode", unread))
    return [f"{len(names)} of {len(patient_of)} names {what}: {list_some(names)}" for what, names in found if names]
