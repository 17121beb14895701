from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from trainables.demo.tissue import DEMO_CLASSES, DEMO_COUNTS, draw_patient_sizes, make_region, plan_classes, write_demo
from trainables.errors import DataError

ALLOWED_IDS = {*DEMO_CLASSES, 21}


@pytest.fixture(scope="module")
def split(demo_root: Path) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = yaml.safe_load((demo_root / "dataset.yaml").read_text())["split"]
    return parts


@pytest.fixture(scope="module")
def masks(demo_root: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted((demo_root / "masks").iterdir())}


def score_box(mask: np.ndarray, class_id: int) -> tuple[float, float]:
    """Returns the Dice with the class of its largest component's filled box, and of that component."""
    present = mask == class_id
    _, _, stats, _ = cv2.connectedComponentsWithStats(present.astype(np.uint8), connectivity=8)
    x, y, width, height, area = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    overlap = np.count_nonzero(present[y : y + height, x : x + width])
    total = np.count_nonzero(present)
    return 2 * overlap / (width * height + total), 2 * area / (area + total)


def read_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("side_px", [128, 255, 320])
def test_a_region_has_the_asked_side_and_known_ids(side_px: int) -> None:
    image, mask = make_region(np.random.default_rng(3), side_px)
    assert image.shape == (side_px, side_px, 3) and image.dtype == np.uint8
    assert mask.shape == (side_px, side_px) and mask.dtype == np.uint8
    assert set(np.unique(mask)) <= ALLOWED_IDS


def test_the_same_generator_state_gives_the_same_pixels() -> None:
    first, again, other = (make_region(np.random.default_rng(seed), 160) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any() and (first[1] != other[1]).any()


def test_opencv_threads_change_nothing() -> None:
    threads = cv2.getNumThreads()
    try:
        images = []
        for n_threads in (1, 4):
            cv2.setNumThreads(n_threads)
            images.append(make_region(np.random.default_rng(8), 320)[0])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(images[0], images[1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_regions", [*DEMO_COUNTS.values()])
def test_a_plan_shows_each_class_and_two_to_four_a_region(n_regions: int, seed: int) -> None:
    plan = plan_classes(np.random.default_rng(seed), n_regions)
    assert len(plan) == n_regions
    assert frozenset().union(*plan) == set(DEMO_CLASSES)
    assert {len(present) for present in plan} <= {2, 3, 4}
    assert all(2 in present for present in plan)


@pytest.mark.parametrize("n_regions", [2, 3, 4, 5, 12, 24, 60])
def test_a_patient_has_two_or_three_regions(n_regions: int) -> None:
    for seed in range(10):
        counts = draw_patient_sizes(np.random.default_rng(seed), n_regions)
        assert sum(counts) == n_regions and set(counts) <= {2, 3}


@pytest.mark.slow
def test_the_layout_is_bcss_s(demo_root: Path, split: dict[str, list[str]], masks: dict[str, np.ndarray]) -> None:
    declared = yaml.safe_load((demo_root / "dataset.yaml").read_text())
    assert declared["name"] == "demo" and declared["classes"] == DEMO_CLASSES
    names = [name for part in split.values() for name in part]
    assert {part: len(listed) for part, listed in split.items()} == DEMO_COUNTS
    assert sorted(names) == list(masks) == sorted(path.name for path in (demo_root / "images").iterdir())
    assert {path.name for path in demo_root.iterdir()} == {"images", "masks", "dataset.yaml"}
    patients = [{name.rsplit("-R", 1)[0] for name in part} for part in split.values()]
    assert len(set.union(*patients)) == sum(len(part) for part in patients)  # none stands in two parts
    for part, listed in split.items():
        assert set(DEMO_CLASSES) <= {*np.unique([masks[name] for name in listed]).tolist()}, part


@pytest.mark.slow
def test_classes_are_as_frequent_as_in_bcss(masks: dict[str, np.ndarray]) -> None:
    counts = np.bincount(np.concatenate([mask.ravel() for mask in masks.values()]), minlength=22)
    shares = counts / counts.sum()
    assert set(np.flatnonzero(counts)) <= ALLOWED_IDS
    assert shares[1] > shares[2] > shares[4] > shares[3] > shares[18] > 0
    # The pixel shares of BCSS's 151 regions; the demo is held to within a fifth of each.
    bcss = {1: 0.338, 2: 0.262, 4: 0.069, 3: 0.059, 18: 0.005}
    assert {c: float(shares[c]) for c in bcss} == pytest.approx(bcss, rel=0.2)


@pytest.mark.slow
def test_the_box_is_no_answer_and_its_component_nearly_all(masks: dict[str, np.ndarray]) -> None:
    pairs = [(mask, one) for mask in masks.values() for one in DEMO_CLASSES if (mask == one).any()]
    floors, ceilings = np.array([score_box(mask, one) for mask, one in pairs]).T
    assert 0.40 <= floors.mean() <= 0.52
    assert ceilings.mean() >= 0.95 and ceilings.min() >= 0.85


@pytest.mark.slow
def test_every_class_has_texture(demo_root: Path, masks: dict[str, np.ndarray]) -> None:
    for name, mask in masks.items():
        gray = np.asarray(Image.open(demo_root / "images" / name).convert("L"), np.float32)
        detail = gray - cv2.GaussianBlur(gray, (0, 0), 4)
        for class_id in DEMO_CLASSES:
            if np.count_nonzero(mask == class_id) > 500:
                assert detail[mask == class_id].std() > 4, (name, class_id)


@pytest.mark.slow
def test_patients_differ_in_stain_more_than_their_regions(demo_root: Path, split: dict[str, list[str]]) -> None:
    means: dict[str, list[np.ndarray]] = {}
    for name in (name for part in split.values() for name in part):
        image = np.asarray(Image.open(demo_root / "images" / name), np.float32)
        hue = np.log(256) - np.log(image + 1)  # ratios of optical densities: independent of how much tissue
        means.setdefault(name.rsplit("-R", 1)[0], []).append(hue.mean((0, 1)) / hue.mean())
    within = np.mean([np.std(regions, axis=0) for regions in means.values()])
    between = np.std([np.mean(regions, axis=0) for regions in means.values()], axis=0).mean()
    assert between > 2 * within


@pytest.fixture
def few_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of four regions a part, which is made in no time."""
    monkeypatch.setattr("trainables.demo.tissue.DEMO_COUNTS", dict.fromkeys(DEMO_COUNTS, 4))


@pytest.mark.usefixtures("few_regions")
def test_the_same_seed_writes_the_same_files_and_a_complete_demo_is_left_as_it_is(tmp_path: Path) -> None:
    for name, cores in (("first", 1), ("again", 2)):
        write_demo(tmp_path / name, 4, side_px=128, cores=cores)
    files = read_files(tmp_path / "first")
    assert files == read_files(tmp_path / "again") and len(files) == 2 * 12 + 1
    (tmp_path / "dataset.yaml").write_text("name: mine\n")
    write_demo(tmp_path, side_px=128)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "again", "dataset.yaml"}
    assert (tmp_path / "dataset.yaml").read_text() == "name: mine\n"


@pytest.mark.usefixtures("few_regions")
def test_a_demo_that_appears_after_the_first_look_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "dataset.yaml").write_text("")
    answers, exists = iter([False]), Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: next(answers, None) is None and exists(path))
    write_demo(tmp_path / "demo", side_px=128)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["dataset.yaml"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negative dimensions"):
        write_demo(tmp_path / "deep" / "demo", side_px=-1)
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.usefixtures("few_regions")
def test_a_folder_of_something_else_is_kept_and_named(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    root.mkdir()
    (root / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="demo: something other than the demo"):
        write_demo(root, side_px=128)
    assert read_files(tmp_path) == {"demo/thesis.txt": b"mine"}
