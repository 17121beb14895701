"""The formats in which other tools take a model, each written from ``sam2.pt`` and scored by its own library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sam2.modeling.sam2_base import SAM2Base

from trainables.context import TrialContext
from trainables.errors import Finding, list_some
from trainables.evaluation.stock_predictor import use_predictor
from trainables.export.library_scores import score_by_library
from trainables.export.merged import MERGED_FILE
from trainables.export.onnx_files import load_onnx, write_onnx
from trainables.export.qupath_file import SAMAPI_TYPES, load_qupath, write_qupath
from trainables.export.transformers_folder import load_transformers, write_transformers
from trainables.model.build import MODELS
from trainables.model.device import pick_device
from trainables.model.weights import load_with_notes
from trainables.protocol.scores import Scores


@dataclass(frozen=True)
class Format:
    """One format; its files lie in a folder of its name.

    Attributes:
        library: What scores it, for the screen and the card.
        packages: What must be installed, which the extra of the format's name does.
        write: Writes a model's files into a folder that does not exist yet, given the context and the search's name.
        score: Loads the folder by the library, and scores it on validation; the last argument is the data's folder.
    """

    library: str
    packages: tuple[str, ...]
    write: Callable[[SAM2Base, TrialContext, Path, str], None]
    score: Callable[[TrialContext, Path, Path], Scores]


def _write_qupath(model: SAM2Base, context: TrialContext, folder: Path, name: str) -> None:
    folder.mkdir()
    # A name of its own for each search: samapi keeps the first file of a name, whatever a second one holds.
    write_qupath(model, folder / f"{SAMAPI_TYPES[context.model][0]}-{name}.pt")


def _score_qupath(context: TrialContext, folder: Path, data_root: Path) -> Scores:
    (path,) = folder.iterdir()
    return score_by_library(context, use_predictor(load_qupath(path, context.model), pick_device()), data_root)


FORMATS: dict[str, Format] = {
    "transformers": Format(
        "Sam2Model of transformers",
        ("transformers",),
        lambda model, context, folder, name: write_transformers(model, folder),
        lambda context, folder, root: score_by_library(context, load_transformers(folder), root),
    ),
    "onnx": Format(
        "onnxruntime",
        ("onnx", "onnxscript", "onnxruntime"),
        lambda model, context, folder, name: write_onnx(model, folder),
        lambda context, folder, root: score_by_library(context, load_onnx(folder), root),
    ),
    "qupath": Format("SAM 2.0 as samapi builds it", (), _write_qupath, _score_qupath),
}


def find_unfit(names: Sequence[str], context: TrialContext, unmergeable: str = "") -> list[Finding]:
    """Returns why formats cannot be written or scored here; ``unmergeable`` is the part that cannot be merged, if any.

    Raises:
        KeyError: If there is no format of a name.
    """
    found = []
    for name in names:
        where, leave_out = f"--format {name}", f"leave {name} out"
        if missing := [package for package in FORMATS[name].packages if find_spec(package) is None]:
            what = f"needs {list_some(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
            found.append(Finding(where, what, f'pip install -e ".[{name}]"'))
        if context.protocol.is_auto:
            what = "no such file holds the class prompts by which this winner names every pixel"
            found.append(Finding(where, what, f"{leave_out}: search.predict takes the export as it is"))
        elif unmergeable:
            what = f"{unmergeable} cannot be merged into SAM2's weights, and such a file holds nothing else"
            found.append(
                Finding(where, what, f"{leave_out}: the README.md of the export shows how to load the adapter")
            )
        if name == "qupath" and context.model not in SAMAPI_TYPES:
            what = f"samapi builds {list_some(list(SAMAPI_TYPES))} alone, and this search's model is {context.model}"
            found.append(Finding(where, what, leave_out))
    return found


def write_formats(names: Sequence[str], context: TrialContext, folder: Path, search: str) -> None:
    """Writes each format of the model in ``sam2.pt`` into a folder of its name beside it.

    Raises:
        CheckpointError: If ``sam2.pt`` cannot be read.
    """
    if not names:
        return
    model = load_with_notes(MODELS[context.model], folder / MERGED_FILE)[0]
    for name in names:
        FORMATS[name].write(model, context, folder / name, search)
