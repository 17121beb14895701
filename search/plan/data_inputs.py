"""Reads the data of a search: regions, decoded store, split, folds and leaks between them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from search.command_line.paths import expand_path
from search.errors import ConfigError
from trainables.data.checks import examine_regions
from trainables.data.folds import Fold, make_folds
from trainables.data.regions import RegionListing, RegionSet, list_regions
from trainables.data.splits import Split, find_split_problems, make_split
from trainables.data.store import RegionStore
from trainables.demo.tissue import write_demo
from trainables.errors import Finding
from trainables.model.build import ModelSpec


def _list_data(data: str | None, cache: Path | None) -> RegionListing | None:
    """Lists the user's regions, or the demo's, which are made in the cache; None where there is no cache."""
    if data is not None:
        root = expand_path(data)
        if root.is_file():
            fix = "give the folder that holds images/ and masks/"
            raise ConfigError([Finding(f"--data {data}", "is a file, not a folder", fix)])
        return list_regions(root)
    if cache is None:
        return None
    write_demo(cache / "demo-tissue")
    return list_regions(cache / "demo-tissue")


def _build_store(
    listing: RegionListing,
    regions: RegionSet,
    spec: ModelSpec | None,
    cache: Path | None,
    warn: Callable[[Finding], None],
) -> RegionStore | None:
    """Decodes all regions; where there is nothing to decode for, or files are missing, only to tell what is wrong."""
    if spec is not None and cache is not None and not listing.findings:
        return RegionStore.build(regions, 256 if spec.is_demo else 1024, cache, warn=warn)
    report = examine_regions(regions, listing.has_classes)
    for warning in report.warnings:
        warn(warning)
    if report.findings:
        raise ConfigError(report.findings)
    return None


def _make_split(
    arguments: argparse.Namespace, listing: RegionListing, regions: RegionSet, store: RegionStore | None
) -> Split | None:
    """Splits the regions; without a store only to tell what is wrong with the split, as far as it is declared."""
    if listing.findings:  # a part may be empty for want of a mask that is told to be missing
        names = [*(region.name for region in regions.regions), *listing.unpaired]
        if regions.declared_split and arguments.split in ("auto", "declared"):
            if problems := find_split_problems(names, regions.declared_split, regions.locate_split):
                raise ConfigError(problems)
            return Split("declared", "", **regions.declared_split)
        return None
    nothing: dict[str, frozenset[int]] = {region.name: frozenset() for region in regions.regions}
    presence = store.class_presence() if store else nothing
    return make_split(regions, arguments.split, arguments.seed, class_presence=presence)


def _make_folds(
    arguments: argparse.Namespace, split: Split, regions: RegionSet, store: RegionStore
) -> tuple[Fold, ...]:
    if arguments.folds is None:
        return ()
    return make_folds(split, regions, arguments.folds, arguments.seed, store.class_presence())


def _describe_leaks(leaks: list[Finding]) -> tuple[str, ...]:
    """Returns the one sentence that marks all artifacts of a search that goes on in spite of leaks."""
    if not leaks:
        return ()
    more = f", and {len(leaks) - 1} more" if len(leaks) > 1 else ""
    return (f"leak allowed by --allow-leak: {leaks[0].what}{more}; its scores are too good",)
