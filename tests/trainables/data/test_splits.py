import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.data.dataset_file import PARTS
from trainables.data.regions import Region, RegionSet, name_part
from trainables.data.splits import BCSS_TEST_HOSPITALS, Split, bcss_split, find_split_problems, make_split
from trainables.errors import DataError

OTHER_HOSPITALS = ("A1", "A2", "A7", "AR", "BH", "C8")


def make_regions(
    patients: dict[str, str], declared: dict[str, tuple[str, ...]] | None = None, classes: int = 2
) -> RegionSet:
    root = Path("/data")
    regions = tuple(Region(name, root / name, root / name, patients[name]) for name in sorted(patients))
    return RegionSet("x", root, {one: f"class{one}" for one in range(classes)}, (), regions, declared)


def make_tcga_names(n_test: int, n_rest: int) -> list[str]:
    test = [f"TCGA-{BCSS_TEST_HOSPITALS[i % 6]}-A{i:03d}-DX1.png" for i in range(n_test)]
    return test + [f"TCGA-{OTHER_HOSPITALS[i % 6]}-B{i:03d}-DX1.png" for i in range(n_rest)]


def split_evenly(n: int, seed: int = 0) -> Split:
    names = {f"{i:03d}.png": f"{i:03d}" for i in range(n)}
    presence = dict.fromkeys(names, frozenset({0}))
    return make_split(make_regions(names, classes=1), seed=seed, class_presence=presence)


def shuffle_as_legacy_numpy(items: list[str], seed: int) -> list[str]:
    """Fisher-Yates from the end over masked 32-bit draws of MT19937 seeded by Knuth's recurrence.

    Python's own twister supplies the draws, so that nothing here goes through NumPy.
    """
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) % 2**32)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    shuffled = list(items)
    for i in range(len(items) - 1, 0, -1):
        mask = 2 ** i.bit_length() - 1
        while (j := twister.getrandbits(32) & mask) > i:
            pass
        shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
    return shuffled


def test_bcss_split_has_the_recorded_sizes_and_order() -> None:
    names = make_tcga_names(45, 106)
    before = pickle.dumps(np.random.get_state())
    split = bcss_split(reversed(names))
    assert pickle.dumps(np.random.get_state()) == before
    assert (len(split.train), len(split.val), len(split.test)) == (85, 21, 45)
    assert list(split.test) == sorted(names[:45])
    assert [*split.val, *split.train] == shuffle_as_legacy_numpy(sorted(names[45:]), 42)


@pytest.mark.parametrize(
    ("n_test", "n_rest", "kind"),
    [(10, 25, "bcss"), (10, 20, "bcss"), (10, 19, "random"), (0, 40, "random"), (28, 4, "random")],
)
def test_auto_knows_bcss(n_test: int, n_rest: int, kind: str) -> None:
    names = {name: name[:12] for name in make_tcga_names(n_test, n_rest)}
    presence = dict.fromkeys(names, frozenset({0, 1}))
    assert make_split(make_regions(names), class_presence=presence).kind == kind


def test_several_regions_of_a_patient_are_not_the_recorded_split() -> None:
    names = {name: name[:12] for name in make_tcga_names(10, 25)} | {"TCGA-A1-B000-2.png": "TCGA-A1-B000"}
    presence = dict.fromkeys(names, frozenset({0}))
    assert make_split(make_regions(names), class_presence=presence).kind == "random"


@pytest.mark.parametrize("change", [str.lower, "color-{}".format])
def test_the_recorded_split_does_not_depend_on_how_names_are_spelled(change: Callable[[str], str]) -> None:
    names = make_tcga_names(45, 106)
    parts = {part: tuple(map(change, inside)) for part, inside in bcss_split(names).parts.items()}
    assert bcss_split(map(change, names)).parts == parts


@pytest.mark.parametrize("seed", range(5))
def test_regions_without_a_class_fill_all_parts(seed: int) -> None:
    names = {f"{i:02d}.png": f"{i:02d}" for i in range(40)}
    presence = {name: frozenset({0} if int(name[:2]) < 20 else set()) for name in names}
    parts = make_split(make_regions(names, classes=1), seed=seed, class_presence=presence).parts
    assert [len(inside) for inside in parts.values()] == [24, 8, 8]
    assert all(any(not presence[name] for name in inside) for inside in parts.values())


def test_one_name_that_is_no_barcode_makes_it_random() -> None:
    names = {name: name[:12] for name in [*make_tcga_names(10, 25), "x.png"]}
    presence = dict.fromkeys(names, frozenset({0}))
    assert make_split(make_regions(names), class_presence=presence).kind == "random"
    with pytest.raises(DataError, match="is empty"):
        make_split(make_regions({"x.png": "x"}), "bcss", class_presence={"x.png": frozenset({0})})


def test_declared_split_is_taken_and_its_weaknesses_are_described() -> None:
    patients = {"a.png": "p", "b.png": "p", "c.png": "q", "d.png": "q"}
    regions = make_regions(patients, {"train": ("b.png",), "val": ("a.png",), "test": ("c.png",)})
    presence = dict.fromkeys(patients, frozenset({0})) | {"a.png": frozenset({0, 1})}
    split = make_split(regions, class_presence=presence)
    assert split.kind == "declared"
    assert (split.train, split.val, split.test) == (("b.png",), ("a.png",), ("c.png",))
    for text in ("1 region(s) are in no part", "test has no class1"):
        assert text in split.description


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"train": ("a.png", "x.png"), "val": ("y.png",), "test": ("c.png",)}, ["x.png", "y.png"]),
        ({"train": ("a.png", "b.png"), "val": ("b.png",), "test": ("c.png",)}, ["b.png stands in train"]),
        ({"train": ("a.png", "a.png"), "val": ("b.png",), "test": ("c.png",)}, ["in train and train"]),
        ({"train": ("a.png",), "test": ("bb.png",)}, ["split.val: is empty", "did you mean b.png?"]),
        ({"train": ("a.PNG",), "val": ("b.png",), "test": ("c.png",)}, ["did you mean a.png?"]),
        (None, ["declares no split"]),
    ],
)
def test_declared_problems(declared: dict[str, tuple[str, ...]] | None, text: list[str]) -> None:
    regions = make_regions({"a.png": "a", "b.png": "b", "c.png": "c"}, declared)
    with pytest.raises(DataError) as caught:
        make_split(regions, "declared", class_presence={})
    for one in text:
        assert one in str(caught.value)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (6, (4, 1, 1)), (10, (6, 2, 2)), (60, (36, 12, 12))],
)
def test_random_split_is_60_20_20(n: int, sizes: tuple[int, int, int]) -> None:
    split = split_evenly(n)
    assert tuple(len(names) for names in split.parts.values()) == sizes
    assert find_split_problems([f"{i:03d}.png" for i in range(n)], split.parts, name_part) == []
    assert "seed 0, by patient (no two" in split.description


def test_random_split_depends_on_its_seed_alone() -> None:
    assert split_evenly(30, seed=1) == split_evenly(30, seed=1)
    assert split_evenly(30, seed=1).train != split_evenly(30, seed=2).train


def test_too_few_patients_are_reported() -> None:
    with pytest.raises(DataError, match="fewer than 3"):
        make_split(make_regions(dict.fromkeys(["a", "b", "c"], "p") | {"d": "q"}), class_presence={})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_rare", [1, 2, 3, 6])
def test_rare_class_goes_to_train_then_val_then_test(n_rare: int, seed: int) -> None:
    names = {f"{i:02d}.png": f"{i:02d}" for i in range(20)}
    presence = {name: frozenset({0, 1} if int(name[:2]) < n_rare else {0}) for name in names}
    split = make_split(make_regions(names), seed=seed, class_presence=presence)
    found = [any(1 in presence[name] for name in split.parts[part]) for part in PARTS]
    assert found == [True, n_rare > 1, n_rare > 2]
    assert ("val has no class1" in split.description) == (n_rare == 1)
    assert [len(names) for names in split.parts.values()] == [12, 4, 4]


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_whole_and_large_ones_do_not_upset_the_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [30, *rng.integers(1, 6, 25)]
    patients = {f"{p:02d}-{i}.png": f"{p:02d}" for p, size in enumerate(sizes) for i in range(size)}
    presence = {name: frozenset(np.flatnonzero(rng.random(2) < 0.5).tolist()) for name in patients}
    split = make_split(make_regions(patients), seed=seed, class_presence=presence)
    assert "by patient" in split.description
    owners = [{patients[name] for name in names} for names in split.parts.values()]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    shares = [len(names) / len(patients) for names in split.parts.values()]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.05) and sum(shares) == pytest.approx(1)
