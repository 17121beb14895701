"""A sound data set to be spoiled, and the pre-flight that must find out how."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from search.check import main
from trainables.demo.tissue import DEMO_CLASSES
from trainables.errors import Finding

N_REGIONS = 20
HEIGHT_PX, WIDTH_PX = 40, 48


@dataclass(frozen=True)
class Outcome:
    """What a pre-flight ended with."""

    code: int
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def draw_mask() -> np.ndarray:
    """A mask with all five classes of BCSS and a border outside the annotation."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    for index, one in enumerate(DEMO_CLASSES):
        mask[4:36, 4 + 8 * index : 12 + 8 * index] = one
    return mask


def draw_image(seed: int) -> np.ndarray:
    """Pink to purple noise, as bright as stained tissue."""
    shade = np.random.default_rng(seed).integers(0, 60, (HEIGHT_PX, WIDTH_PX, 1), np.uint8)
    image: np.ndarray = np.array([150, 90, 160], np.uint8) + shade
    return image


@pytest.fixture(scope="session")
def sound_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty regions ``r00.png`` to ``r19.png`` in the layout of BCSS, with a split: 8, 6 and 6."""
    root = tmp_path_factory.mktemp("sound") / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    names = [f"r{number:02}.png" for number in range(N_REGIONS)]
    for seed, name in enumerate(names):
        Image.fromarray(draw_image(seed)).save(root / "images" / name)
        Image.fromarray(draw_mask()).save(root / "masks" / name)
    split = {"train": names[:8], "val": names[8:14], "test": names[14:]}
    (root / "dataset.yaml").write_text(yaml.safe_dump({"name": "sound", "classes": DEMO_CLASSES, "split": split}))
    return root


@pytest.fixture
def data(sound_root: Path, tmp_path: Path) -> Path:
    """A copy of the sound data set, to be spoiled."""
    return Path(shutil.copytree(sound_root, tmp_path / "data"))


@pytest.fixture
def check(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ray_stays_off: None
) -> Callable[..., Outcome]:
    """Runs the command on the data set with further options; asserts that nothing was started."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> Outcome:
        given = {"--space": "lora.yaml", "--data": str(data), "--storage": str(tmp_path / "runs"), "--name": "new"}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        code = main([*(word for pair in given.items() for word in pair), "--json"])
        said = json.loads(capsys.readouterr().out)
        assert not list(tmp_path.rglob("mlflow.db"))
        assert not (tmp_path / "runs" / "new").exists()
        findings, warnings = (tuple(Finding(**each) for each in said[key]) for key in ("findings", "warnings"))
        assert all(each.where and each.what and each.fix for each in findings + warnings)
        return Outcome(code, findings, warnings)

    return run


@pytest.fixture(scope="session")
def assert_reported() -> Callable[[Sequence[Finding], str, str], None]:
    def search(findings: Sequence[Finding], where: str, what: str) -> None:
        found = [each for each in findings if where in each.where and what in f"{each.what} -> {each.fix}"]
        assert found, f"no finding on {where!r} says {what!r}: {[str(each) for each in findings]}"

    return search
