"""Reads the data of a search: regions, decoded store, split, folds and leaks between them."""

from dataclasses import dataclass
from pathlib import Path

from search.command_line.options import SearchOptions
from search.command_line.paths import expand_path
from search.errors import ConfigError
from search.plan.problems import Problems
from trainables.data.checks import examine_regions, find_weak_parts
from trainables.data.folds import Fold, make_folds
from trainables.data.leaks import describe_hospitals, find_duplicates, find_leaks
from trainables.data.regions import RegionListing, RegionSet, list_regions
from trainables.data.splits import Split, find_split_problems, make_split
from trainables.data.store import RegionStore
from trainables.demo.tissue import write_demo
from trainables.errors import Finding

DEMO_FOLDER = "demo-tissue"  # in the cache


@dataclass(frozen=True)
class DataInputs:
    """The data set and how it is divided; without folds one split validates.

    ``hospitals`` is a sentence on hospitals that parts share, or empty. The caveats, which every artifact must say, are
    leaks that were allowed.
    """

    regions: RegionSet
    store: RegionStore
    split: Split
    folds: tuple[Fold, ...]
    is_demo: bool
    hospitals: str
    caveats: tuple[str, ...]


def list_data(data: str | None, cache: Path | None) -> RegionListing | None:
    """Lists the user's regions, or the demo's, which are drawn in the cache; None where there is no cache."""
    if data is not None:
        root = expand_path(data)
        if root.is_file():
            fix = "give the folder that holds images/ and masks/"
            raise ConfigError.at(f"--data {data}", "is a file, not a folder", fix)
        return list_regions(root)
    if cache is None:
        return None
    write_demo(cache / DEMO_FOLDER)
    return list_regions(cache / DEMO_FOLDER)


def read_data(
    options: SearchOptions, listing: RegionListing, side_px: int | None, cache: Path | None, problems: Problems
) -> DataInputs | None:
    """Decodes the regions, divides them, and looks for leaks between the parts; None where anything was reported.

    ``side_px``, of the squares that the model takes, is None where the model is unknown; ``cache``, the folder of
    decoded regions, is None where it cannot be written.
    """
    regions = listing.regions
    problems.findings += listing.findings
    problems.warnings += listing.warnings
    if regions is None:
        return None
    store = problems.collect(_build_store, listing, regions, side_px, cache, problems)
    split = problems.collect(_make_split, options, listing, regions, store)
    if split is None:
        return None
    leaks = find_leaks(split.parts, regions, store)
    folds: tuple[Fold, ...] | None = ()
    if store and options.folds is not None:
        presence = store.class_presence()
        folds = problems.collect(make_folds, split, regions, options.folds, options.seed, presence)
        for fold in folds or ():
            # Copies that one part of the split holds together can be dealt to different folds.
            dealt = find_leaks({"train": fold.train, "val": fold.val}, regions, store)
            leaks += [leak for leak in dealt if leak not in leaks]
    if not options.allow_leak:
        problems.findings += leaks
    if store is None:
        return None
    weak = find_weak_parts(split, regions, store.class_presence())
    problems.warnings += [*store.warnings, *find_duplicates(store), *weak]
    if folds is None:
        return None
    hospitals, is_demo = describe_hospitals(split, regions), options.data is None
    return DataInputs(regions, store, split, folds, is_demo, hospitals, _describe_leaks(leaks))


def _build_store(
    listing: RegionListing, regions: RegionSet, side_px: int | None, cache: Path | None, problems: Problems
) -> RegionStore | None:
    """Decodes all regions; only examines them where there is nothing to decode for, or files are missing."""
    if side_px is not None and cache is not None and not listing.findings:
        return RegionStore.build(regions, side_px, cache, warn=problems.warnings.append)
    report = examine_regions(regions, listing.has_classes)
    problems.warnings += report.warnings
    problems.findings += report.findings
    return None


def _make_split(
    options: SearchOptions, listing: RegionListing, regions: RegionSet, store: RegionStore | None
) -> Split | None:
    """Splits the regions; without a store only to find what is wrong with the split, as far as it is declared."""
    if listing.findings:  # a part may be empty because of a missing mask, which is reported already
        names = [*(region.name for region in regions.regions), *listing.unpaired]
        if regions.declared_split and options.split in ("auto", "declared"):
            if problems := find_split_problems(names, regions.declared_split, regions.locate_split):
                raise ConfigError(problems)
            return Split("declared", "", **regions.declared_split)
        return None
    nothing: dict[str, frozenset[int]] = {region.name: frozenset() for region in regions.regions}
    presence = store.class_presence() if store else nothing
    return make_split(regions, options.split, options.seed, class_presence=presence)


def _describe_leaks(leaks: list[Finding]) -> tuple[str, ...]:
    """Returns the one sentence that marks all artifacts of a search that goes on in spite of leaks."""
    if not leaks:
        return ()
    more = f", and {len(leaks) - 1} more" if len(leaks) > 1 else ""
    return (f"leak allowed by --allow-leak: {leaks[0].what}{more}; its scores are too good",)
