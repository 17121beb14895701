"""The naming step: its options before anything starts, and masks of real and synthetic tissue with names."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from search.command_line.options import make_parser, parse_options
from search.errors import ConfigError
from search.plan.clip_options import HOW_TO_GET_WEIGHTS, ONE_CLASS, NamingSettings, check_naming, read_prompt_texts
from search.stages.clip_naming import flatten_naming, name_regions, plan_parts, write_naming
from trainables.context import TrialContext
from trainables.data.folds import Fold
from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES, make_region
from trainables.protocol.spec import PROTOCOLS

ROOT = Path(__file__).parents[3]
CLASSES = tuple(DEMO_CLASSES.values())


def check(*options: str, classes: tuple[str, ...] | None = CLASSES) -> NamingSettings | str:
    return check_naming(parse_options(make_parser(), ["--space", "lora.yaml", *options]), classes)


def refuse(*options: str, classes: tuple[str, ...] | None = CLASSES) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(*options, classes=classes)
    return [str(finding) for finding in caught.value.findings]


def make_context(store: RegionStore, n_train: int, protocol: str = "recorded") -> TrialContext:
    return TrialContext(
        model="nano",
        checkpoint=None,
        store_folder=str(store.folder),
        train=store.names[:n_train],
        val=store.names[n_train:],
        protocol=PROTOCOLS[protocol],
        max_epochs=1,
        seed=0,
        fixed={},
        n_workers=0,
    )


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """Five regions of synthetic tissue of 160 px."""
    root = tmp_path_factory.mktemp("tissue")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for seed in range(5):
        image, mask = make_region(np.random.default_rng(seed), side_px=160)
        Image.fromarray(image).save(root / "images" / f"r{seed}.png")
        Image.fromarray(mask).save(root / "masks" / f"r{seed}.png")
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": DEMO_CLASSES}))
    return RegionStore.build(read_regions(root), 256, root / "stores")


def test_without_weights_one_line_says_how_to_get_them() -> None:
    assert check() == HOW_TO_GET_WEIGHTS == check("--clip-model", "ViT-L-14")
    assert "\n" not in HOW_TO_GET_WEIGHTS and "--clip-weights" in HOW_TO_GET_WEIGHTS


def test_settings_know_texts_and_the_absolute_path(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_clip.parent)
    settings = check("--clip-weights", tiny_clip.name)
    assert settings == NamingSettings(None, str(tiny_clip.resolve()), read_prompt_texts(None, CLASSES))


def test_one_class_needs_no_name(tiny_clip: Path) -> None:
    assert check("--clip-weights", str(tiny_clip), classes=("nucleus",)) == ONE_CLASS


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text("tumor: []\n")
    texts = ("--prompt-texts", str(tmp_path / "texts.yaml"))
    found = refuse("--clip-model", "ViT-B32", *texts)
    assert "did you mean 'ViT-B-32'" in found[0]
    assert len(found) == 1 + 1 + len(CLASSES) - 1
    assert "no such file" in refuse("--clip-weights", "clip.pt", *texts)[0]


def test_weights_are_loaded_before_anything_starts(tiny_clip: Path, tmp_path: Path) -> None:
    other = tiny_clip / "open_clip_model.safetensors"  # without the folder's configuration: ViT-B-32 is assumed
    assert "does not fit the model ViT-B-32" in refuse("--clip-weights", str(other))[0]
    (tmp_path / "clip.pt").write_bytes(b"damaged")
    assert "it was not opened" in refuse("--clip-weights", str(tmp_path / "clip.pt"))[0]


def test_where_the_data_cannot_be_read_the_rest_is_still_checked(tiny_clip: Path) -> None:
    assert isinstance(check("--clip-weights", str(tiny_clip), classes=None), NamingSettings)
    assert "no such model" in refuse("--clip-model", "x", classes=None)[0]


def test_other_classes_than_bcss_s_need_texts_of_their_own(tiny_clip: Path) -> None:
    (finding,) = refuse("--clip-weights", str(tiny_clip), classes=("gland", "tumor"))
    assert "gland" in finding


def test_masks_are_named_and_the_report_is_written(tissue: RegionStore, tiny_clip: Path, tmp_path: Path) -> None:
    context = make_context(tissue, 3)
    settings = NamingSettings(None, str(tiny_clip), read_prompt_texts(None, CLASSES))
    report = name_regions(context, settings, context.val)
    presence = tissue.class_presence()
    prompted = [(name, DEMO_CLASSES[one]) for name in context.val for one in DEMO_CLASSES if one in presence[name]]
    assert list(zip(report.files, report.actual, strict=True)) == prompted
    assert set(report.given) == {"clip", "probe"}
    assert report == name_regions(context, settings, context.val)
    files = {path.name: path for path in write_naming(report, tmp_path / "naming", "val")}
    assert {path.suffix for path in files.values()} == {".txt", ".csv", ".png"}
    with files["val_naming_items.csv"].open() as stream:
        assert [row["probe"] for row in csv.DictReader(stream)] == list(report.given["probe"])
    assert cv2.imread(str(files["val_confusion_clip.png"])) is not None
    flat = flatten_naming(report, "val")
    assert {"val_naming_clip_accuracy", "val_naming_probe_macro_f1"} <= set(flat)
    assert all(0 <= value <= len(prompted) for value in flat.values())


def test_real_tissue_end_to_end(shared_data: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Six real crops of BCSS, two of them named, nothing known of the random CLIP but that it ran."""
    regions = read_regions(shared_data / "bcss_crops")
    store = RegionStore.build(regions, 256, tmp_path)
    context = make_context(store, 4, "components")
    settings = check("--clip-weights", str(tiny_clip), classes=tuple(regions.classes.values()))
    assert isinstance(settings, NamingSettings)
    report = name_regions(context, settings, context.val)
    assert set(report.files) <= set(context.val) and len(report.actual) >= 2
    assert report.classes == tuple(regions.classes.values())
    assert report.accuracy("clip") <= 1


def test_no_region_is_named_by_a_probe_that_saw_it(tissue: RegionStore) -> None:
    context = make_context(tissue, 3)
    a, b, c, d, e = tissue.names
    assert plan_parts(context, context.val) == [((a, b, c), (d, e))]
    assert plan_parts(context, ("test",)) == [((a, b, c), ("test",))]
    folded = dataclasses.replace(context, folds=(Fold((c, d, e), (a, b)), Fold((a, b), (c, d, e))))
    assert plan_parts(folded, folded.scored) == [((c, d, e), (a, b)), ((a, b), (c, d, e))]
    assert plan_parts(folded, ("test",)) == [((c, d, e, a, b), ("test",))]


def test_nothing_is_fetched(tissue: RegionStore, tiny_clip: Path, tmp_path: Path) -> None:
    """In a process that records every look-up and connection, with the hub allowed."""
    log = tmp_path / "guard.log"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from search.plan.clip_options import check_naming\nfrom search.stages.clip_naming import name_regions\n"
        "from search.command_line.options import SearchOptions\n"
        "from tests_context import context, classes\n"
        "options = SearchOptions(space='lora.yaml', clip_weights=sys.argv[1])\n"
        "report = name_regions(context, check_naming(options, classes), context.val)\n"
        "print(report.to_text())\n"
    )
    (tmp_path / "tests_context.py").write_text(
        "from trainables.context import TrialContext\n"
        f"context = TrialContext.from_dict({make_context(tissue, 3).to_dict()!r})\n"
        f"classes = {CLASSES!r}\n"
    )
    paths = [str(ROOT / "tests" / "jobs" / "network_guard"), str(ROOT), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NETWORK_GUARD_LOG": str(log)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", code, str(tiny_clip)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "clip: accuracy" in done.stdout
    assert not log.exists(), log.read_text()
