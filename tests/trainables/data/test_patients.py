from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from trainables.data.leaks import find_leaks
from trainables.data.patients import describe_doubts, find_patient, find_tcga_hospital, list_tcga_patients
from trainables.data.regions import RegionSet, list_regions


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500.png", "TCGA-A1-A0SK"),
        ("TCGA-A2-A0YE_lowres.png", "TCGA-A2-A0YE"),
        ("color-TCGA-AA-0000-01Z-00-DX1_3.png", "TCGA-AA-0000"),
        ("_TCGA-AA-0000-0_3.png", "TCGA-AA-0000"),
        ("normTCGA-AA-0000.png", "TCGA-AA-0000"),
        ("tcga-aa-00b0-01z-00-dx1_3.png", "TCGA-AA-00B0"),
        ("TCGA.AA.0000.01Z.png", "TCGA-AA-0000"),
        ("x_TCGA_AA_0000_01Z.png", "TCGA-AA-0000"),
        ("TCGA\u2013IB\u2013AAUM.png", "TCGA-IB-AAUM"),
        ("TCGA-A1-A0SK_vs_TCGA-A1-A0SL.png", "TCGA-A1-A0SK"),
        ("TCGA-A2-A0YEX.png", None),
        ("tcga_he_tile_3.png", None),
        ("TCGA-BRCA-0001.png", None),
        ("demo-P03-R1.png", "demo-P03"),
        ("slide.7.png", None),
    ],
)
def test_names_show_patients(name: str, patient: str | None) -> None:
    assert find_patient(name) == patient


@pytest.mark.parametrize(
    ("declared", "patient"), [("P-07", "P-07"), ("tcga-a1-a0sk-01Z-00-DX1", "TCGA-A1-A0SK"), ("", "TCGA-AA-0000")]
)
def test_declared_patients_come_first(declared: str, patient: str) -> None:
    assert find_patient("TCGA-AA-0000-DX1.png", declared) == patient


@pytest.mark.parametrize(
    ("patient", "hospital"),
    [
        ("TCGA-A1-A0SK", "A1"),
        ("TCGA-OL-A5RY-DX1_xmin1.png", "OL"),
        ("TCGA-A1-A0SKX", None),
        ("demo-P01", None),
        ("", None),
    ],
)
def test_hospital_is_the_barcodes_second_field(patient: str, hospital: str | None) -> None:
    assert find_tcga_hospital(patient) == hospital


def test_all_barcodes_of_a_name_are_listed() -> None:
    assert list_tcga_patients("TCGA-A1-A0SK_vs_tcga-a1-a0sl.png") == ["TCGA-A1-A0SK", "TCGA-A1-A0SL"]


def test_names_that_speak_of_other_patients_are_described() -> None:
    patient_of = {
        "TCGA-A1-A0SK-1.png": "TCGA-A1-A0SK",
        "TCGA-A1-A0SL-1.png": "P-1",
        "TCGA-A1-A0SM_TCGA-A1-A0SN.png": "TCGA-A1-A0SM",
        "tcga_7.png": "tcga_7",
        "tcga_8.png": "P-2",
        "b.png": "b",
    }
    assert describe_doubts(patient_of) == [
        "2 of 6 names hold a TCGA barcode that is not the patient: TCGA-A1-A0SL-1.png (patient P-1), "
        "TCGA-A1-A0SM_TCGA-A1-A0SN.png (patient TCGA-A1-A0SM)",
        "1 of 6 names speak of TCGA without a barcode: tcga_7.png",
    ]


@pytest.mark.parametrize("pattern", ["color-TCGA-AA-000{}-01Z", "tcga_aa_000{}_x", "TCGA.AA.000{}"])
@pytest.mark.parametrize("is_declared", [False, True])
def test_barcodes_leak_whatever_stands_around_them_or_is_declared(
    write_regions: Callable[..., RegionSet], tmp_path: Path, pattern: str, is_declared: bool
) -> None:
    names = [f"{pattern.format(number // 2)}-{number}.png" for number in range(4)]
    patients = {name: f"slide {number}" for number, name in enumerate(names)} if is_declared else {}
    text = yaml.safe_dump({"classes": {1: "a"}, "patients": patients})
    regions = write_regions(tmp_path, dict.fromkeys(names, np.ones((4, 4), np.uint8)), text=text)
    found = find_leaks({"train": names[:1], "val": names[1:2], "test": names[2:]}, regions, None)
    assert [finding.what.split(":")[0] for finding in found] == ["patient TCGA-AA-0000 stands in 2 parts"]
    assert len(list_regions(tmp_path).warnings) == is_declared
