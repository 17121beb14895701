"""Reads the data of a search: regions, decoded store, split, folds and leaks between them."""

from dataclasses import dataclass, replace
from pathlib import Path

from search.cluster.limits import count_decoders
from search.command_line.options import SearchOptions
from search.command_line.paths import expand_path
from search.errors import ConfigError
from search.plan.assumed_classes import find_assumptions
from search.plan.problems import Problems
from trainables.data.checks import examine_regions, find_weak_parts
from trainables.data.leaks import describe_hospitals, find_duplicates, find_leaks
from trainables.data.regions import RegionListing, RegionSet, list_regions
from trainables.data.splits import Fold, Split, find_split_problems, make_folds, make_split
from trainables.data.store import RegionStore
from trainables.demo.tissue import write_demo
from trainables.errors import Finding
from trainables.evaluation.scored_regions import describe_missed, describe_unscored, find_scored
from trainables.protocol.spec import Protocol
from trainables.tiles.scale_findings import describe_mixed_scales, describe_shrinking, find_unknown_scales

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
    write_demo(cache / DEMO_FOLDER, cores=count_decoders())
    return list_regions(cache / DEMO_FOLDER)


@dataclass(frozen=True)
class DataUse:
    """What a search does with its data.

    Attributes:
        side_px: Side of the squares that the model takes; None where the model is unknown.
        cache: Folder of decoded regions; None where it cannot be written.
        protocol: How candidates are scored; None where it is unknown.
        resuming: Whether the search has begun: what an older version let pass is then a warning, leaks a caveat.
    """

    side_px: int | None
    cache: Path | None
    protocol: Protocol | None
    resuming: bool = False


def read_data(options: SearchOptions, listing: RegionListing, use: DataUse, problems: Problems) -> DataInputs | None:
    """Decodes the regions, divides them, and looks for leaks between the parts; None where anything was reported."""
    regions = listing.regions
    problems.findings += listing.findings
    problems.warnings += listing.warnings
    if regions is None:
        return None
    store = problems.collect(_build_store, listing, regions, use, problems)
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
    if not (options.allow_leak or use.resuming):
        problems.findings += leaks
    if store is None:
        return None
    if not _check_scales(regions, store, use.protocol, problems):
        return None
    scored = _check_scored(split, folds or (), regions, store, use.protocol, problems)
    weak = find_weak_parts(split, regions, store.class_presence(), scored)
    # A store may have been built where the data lay before.
    decoded = [replace(one, where=str(regions.root / one.where)) for one in store.warnings]
    problems.warnings += [*decoded, *find_duplicates(store), *weak]
    if folds is None:
        return None
    hospitals, is_demo = describe_hospitals(split, regions), options.data is None
    return DataInputs(regions, store, split, folds, is_demo, hospitals, _describe_leaks(leaks, options))


def _build_store(listing: RegionListing, regions: RegionSet, use: DataUse, problems: Problems) -> RegionStore | None:
    """Decodes all regions; only examines them where there is nothing to decode for, or files or classes are missing."""
    unlikely, assumed = find_assumptions(regions) if listing.assumes_bcss else ([], [])
    if use.resuming:
        unlikely, assumed = [], unlikely + assumed
    problems.findings += unlikely
    problems.warnings += assumed
    if use.side_px is not None and use.cache is not None and not (listing.findings or unlikely):
        for_tiles = use.protocol is not None and use.protocol.tiles is not None
        return RegionStore.build(regions, use.side_px, use.cache, problems.warnings.append, for_tiles, count_decoders())
    report = examine_regions(regions, listing.has_classes and not unlikely, cores=count_decoders())
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


def _check_scales(regions: RegionSet, store: RegionStore, protocol: Protocol | None, problems: Problems) -> bool:
    """Returns whether regions can be cut as the protocol says; warns of those that shrink."""
    if protocol is None or protocol.tiles is None:
        sizes = [store.size(index) for index in range(len(store))]
        problems.warnings += describe_shrinking(regions.root, sizes, store.image_size)
        return True
    problems.warnings += describe_mixed_scales(regions.root, store.scales, protocol.tiles)
    unknown = find_unknown_scales(regions.root, store.names, store.scales, protocol.tiles)
    problems.findings += unknown
    return not unknown


def _check_scored(
    split: Split,
    folds: tuple[Fold, ...],
    regions: RegionSet,
    store: RegionStore,
    protocol: Protocol | None,
    problems: Problems,
) -> set[str]:
    """Returns the regions in which there is something to score; finds parts without any."""
    if protocol is None:
        return set(store.names)
    scored = find_scored(store, protocol)
    problems.warnings += describe_unscored(regions.root, store, scored, protocol)
    problems.warnings += describe_missed(regions.root, store, scored.intersection(split.val), protocol)
    parts = [(f"split.{part}", names) for part, names in split.parts.items()]
    parts += [("folds", names) for fold in folds for names in (fold.train, fold.val)]
    what, fix = "no region of it shows anything that the protocol prompts", "move regions of a class there"
    empty = dict.fromkeys(f"{regions.root} {part}" for part, names in parts if not scored.intersection(names))
    problems.findings += (Finding(where, what, fix) for where in empty)
    return scored


def _describe_leaks(leaks: list[Finding], options: SearchOptions) -> tuple[str, ...]:
    """Returns the one sentence that marks all artifacts of a search that goes on in spite of leaks."""
    if not leaks:
        return ()
    reason = "allowed by --allow-leak" if options.allow_leak else "not seen when the search began"
    more = f", and {len(leaks) - 1} more" if len(leaks) > 1 else ""
    return (f"leak {reason}: {leaks[0].what}{more}; its scores are too good",)
