"""CLIP and a probe name the masks of real and synthetic tissue."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from search.command_line.options import SearchOptions
from search.plan.clip_options import NamingSettings, check_naming, read_prompt_texts
from search.stages.clip_naming import name_regions, plan_parts, write_naming
from trainables.context import TrialContext
from trainables.data.regions import read_regions
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES
from trainables.protocol.spec import PROTOCOLS

CLASSES = tuple(DEMO_CLASSES.values())


def make_context(store: RegionStore, n_train: int, protocol: str = "recorded") -> TrialContext:
    train, val = store.names[:n_train], store.names[n_train : n_train + 2]
    return TrialContext("nano", None, str(store.folder), train, val, PROTOCOLS[protocol], 1, 0, {}, 0)


@pytest.fixture
def nothing_fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that looks up or connects to anything, with the hub allowed."""
    tried: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("getaddrinfo", "socket.connect"):
        monkeypatch.setattr(f"socket.{name}", refuse)
    yield
    assert not tried


@pytest.mark.usefixtures("nothing_fetched")
def test_masks_are_named_and_the_report_is_written(small_store: RegionStore, tiny_clip: Path, tmp_path: Path) -> None:
    context = make_context(small_store, 3)
    settings = check_naming(SearchOptions(space="lora.yaml", clip_weights=str(tiny_clip)), CLASSES)
    assert isinstance(settings, NamingSettings) and settings.texts == read_prompt_texts(None, CLASSES)
    report = name_regions(context, settings, context.val)
    presence = small_store.class_presence()
    prompted = [(name, DEMO_CLASSES[one]) for name in context.val for one in DEMO_CLASSES if one in presence[name]]
    assert list(zip(report.files, report.actual, strict=True)) == prompted
    assert set(report.given) == {"clip", "probe"}
    assert report == name_regions(context, settings, context.val)
    write_naming(report, tmp_path / "naming", "val")
    files = {path.name: path for path in (tmp_path / "naming").iterdir()}
    assert {path.suffix for path in files.values()} == {".txt", ".csv", ".png"}
    with files["val_naming_items.csv"].open() as stream:
        assert [row["probe"] for row in csv.DictReader(stream)] == list(report.given["probe"])
    assert cv2.imread(str(files["val_confusion_clip.png"])) is not None
    flat = report.to_flat()
    assert {"naming_clip_accuracy", "naming_probe_macro_f1"} <= set(flat)
    assert all(0 <= value <= len(prompted) for value in flat.values())


def test_real_tissue_end_to_end(shared_data: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Six real crops of BCSS, two of them named, nothing known of the random CLIP but that it ran."""
    regions = read_regions(shared_data / "bcss_crops")
    store = RegionStore.build(regions, 256, tmp_path)
    context = make_context(store, 4, "components")
    options = SearchOptions(space="lora.yaml", clip_weights=str(tiny_clip))
    settings = check_naming(options, tuple(regions.classes.values()))
    assert isinstance(settings, NamingSettings)
    report = name_regions(context, settings, context.val)
    assert set(report.files) <= set(context.val) and len(report.actual) >= 2
    assert report.classes == tuple(regions.classes.values())
    assert report.accuracy("clip") <= 1


def test_no_region_is_named_by_a_probe_that_saw_it(small_store: RegionStore) -> None:
    context = make_context(small_store, 3)
    a, b, c, d, e = small_store.names[:5]
    assert plan_parts(context, context.val) == [((a, b, c), (d, e))]
    assert plan_parts(context, ("test",)) == [((a, b, c), ("test",))]
    folded = dataclasses.replace(context, folds=(Fold((c, d, e), (a, b)), Fold((a, b), (c, d, e))))
    assert plan_parts(folded, folded.scored) == [((c, d, e), (a, b)), ((a, b), (c, d, e))]
    assert plan_parts(folded, ("test",)) == [((c, d, e, a, b), ("test",))]
