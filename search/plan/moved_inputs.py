"""Finds the data and the weights of a search where they are now; what was moved must hold what it held."""

import argparse
import dataclasses
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from search.cluster.limits import count_decoders
from search.command_line.options import SearchOptions
from search.command_line.paths import expand_path, make_absolute
from search.errors import ConfigError
from search.plan.data_inputs import DEMO_FOLDER
from search.plan.places import CACHE_FOLDER
from search.plan.problems import GIVE_DATA, HAS_CHANGED, Problems
from search.plan.search_plan import SearchPlan
from search.run_folder.search_record import SHIPPED_WEIGHTS, SearchRecord
from trainables.data.regions import list_regions
from trainables.data.store import RegionStore
from trainables.errors import DataError, Finding
from trainables.files.manifest import hash_file
from trainables.model.build import MODELS
from trainables.model.weights import NANO_WEIGHTS, find_weights

CHECKPOINT = "checkpoint"


def find_inputs(folder: Path, given: argparse.Namespace) -> SearchRecord:
    """Returns a search's record with the places where its data, its decoded regions and its weights are now.

    The folder may have been moved, and its storage with it; the options given are those of ``add_run_options``.

    Raises:
        ConfigError: If the folder holds no search; with everything that is not what it was, or that is given and not
            there. Weights that are not there are reported where they are loaded.
    """
    record, problems = SearchRecord.read(folder), Problems()
    cache = folder.parent / CACHE_FOLDER
    root = expand_path(given.data or record.data_root)
    if not root.is_dir() and record.arguments and record.options.data is None:
        root = cache / DEMO_FOLDER  # with the search's storage
    store = problems.collect(_find_store, cache, record, root, given.data is not None)
    checkpoint = problems.collect(_find_checkpoint, record, given.checkpoint)
    named = (text.partition("=") for text in given.pathology_weights)
    pathology = {name: make_absolute(file) for name, _, file in named}
    files = {**pathology, **({CHECKPOINT: checkpoint} if given.checkpoint and checkpoint else {})}
    problems.findings += find_changed_files(record, files, hash_files(files))
    if problems.findings or store is None:
        raise ConfigError(problems.findings)
    context = dataclasses.replace(
        record.context,
        store_folder=str(store),
        checkpoint=checkpoint,
        pathology_weights={**record.context.pathology_weights, **pathology},
    )
    return dataclasses.replace(record, data_root=str(root), context=context)


def _find_store(cache: Path, record: SearchRecord, root: Path, is_moved: bool) -> Path:
    """Returns the folder of the decoded regions, which are decoded again where they are gone."""
    for_tiles = record.context.protocol.tiles is not None
    if not is_moved:
        for folder in [Path(record.context.store_folder), *sorted(cache.glob(f"{record.data_fingerprint}-*"))]:
            with suppress(DataError):
                store = RegionStore(folder)
                if store.for_tiles or not for_tiles:
                    return store.folder
    listing = list_regions(root)
    if listing.regions is None or listing.findings:
        raise ConfigError(listing.findings)
    side_px = MODELS[record.context.model].side_px
    store = RegionStore.build(listing.regions, side_px, cache, for_tiles=for_tiles, cores=count_decoders())
    if store.fingerprint != record.data_fingerprint:
        raise ConfigError.at(root, HAS_CHANGED.format(record.data_fingerprint, store.fingerprint), GIVE_DATA)
    return store.folder


def _find_checkpoint(record: SearchRecord, given: str | None) -> str | None:
    """Returns the file of the model's weights, or the hub id whose file lies elsewhere by now; None for nano's own."""
    before = record.context.checkpoint
    if given:
        return str(find_weights(MODELS[record.context.model], given))
    return record.options.checkpoint or before if before and not Path(before).exists() else before


def list_input_files(plan: SearchPlan) -> dict[str, str]:
    """Returns the files of a plan's weights and texts, as :func:`hash_files` takes them."""
    return _name_files(plan.options, plan.model.checkpoint, plan.model.pathology_weights)


def _name_files(options: SearchOptions, checkpoint: str | None, pathology: Mapping[str, str]) -> dict[str, str]:
    named = {CHECKPOINT: checkpoint, "clip_weights": options.clip_weights, "prompt_texts": options.prompt_texts}
    shipped = {} if checkpoint else {SHIPPED_WEIGHTS: str(NANO_WEIGHTS)}
    return {**{name: str(expand_path(file)) for name, file in named.items() if file}, **shipped, **pathology}


def hash_files(files: Mapping[str, str]) -> dict[str, str]:
    """Returns the SHA-256 of each file, or of the files of a folder, by its name; without hub ids, which are none.

    A name is ``checkpoint``, ``shipped weights``, ``clip_weights``, ``prompt_texts``, or that of a pathology encoder.
    """
    return {name: _hash(Path(file)) for name, file in files.items() if Path(file).exists()}


def _hash(path: Path) -> str:
    if path.is_file():
        return hash_file(path)
    digests = [f"{each.relative_to(path)} {hash_file(each)}" for each in sorted(path.rglob("*")) if each.is_file()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def find_changed_files(record: SearchRecord, files: Mapping[str, str], hashes: Mapping[str, str]) -> list[Finding]:
    """Returns which of the files, with the hashes that :func:`hash_files` returns, are not those of the search.

    Of a search that recorded no hashes, as older versions did, the names are compared.
    """
    context, findings = record.context, list[Finding]()
    before = _name_files(record.options, context.checkpoint, context.pathology_weights)
    for name, now in hashes.items():
        place, then = before.get(name), record.input_hashes.get(name)
        if not place:
            findings.append(Finding(f"{name} {files[name]}", "the search began without it", "leave it out"))
            continue
        if then is None:
            then, now = Path(place).name, Path(files[name]).name
        if then != now:
            what = HAS_CHANGED.format(then[:40], now[:40])
            findings.append(Finding(f"{name} {files[name]}", what, "give the file that the search began with"))
    return findings
