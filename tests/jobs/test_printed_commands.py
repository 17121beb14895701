"""Commands and Python that README, docs and examples print: parsers understand them, and those of the guides are run.

The guides are walked in one folder, in the order in which a reader meets them: a later command uses what an earlier one
made. Run the file as a whole. Placeholders get something in their place (``NAME`` is the name of the first search on
``data``), and options are only appended, to make a command small: the last of an option wins.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prepared_workers import instead_of_python, start_server

from search.console import VERBS, make_verb_parser

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("tutorial", "how-to", "data", "stops"))]
PAGES = [*GUIDES, *sorted({*(ROOT / "docs").glob("*.md")} - {*GUIDES}), *sorted((ROOT / "recipes").glob("*.md"))]
PRINTED = re.compile(r"^```(\w*)\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
OURS = r"(?:sam2-search |python -m search\.)"
PROGRAMS = rf"(?:{OURS}|python|pip |pytest |export |eval |mlflow |optuna-dashboard |hf |git |docker |sbatch )"

# What the walk leaves out: how it begins -> why.
NOT_RUN = {
    "python3 -m venv": "the tests run in an environment that is there",
    "export SAM2_BUILD_CUDA": "for pip",
    "pip install -e . && sam2-search run": "on the demo, in tests/jobs/test_main_job.py; .ci/run installs",
    'pip install -e ".[test]" && pytest': ".ci/run does this, word for word",
    "pip install": "a package index",
    "optuna-dashboard": "a server of another package",
    "mlflow ui": "served to a browser in tests/jobs/test_main_job.py",
    "mlflow models serve": "a server; tests/search/served_model asks the model itself",
    "hf auth login": "asks for a token",
    "python -P -m search.run ...": "no whole command",
    "sam2-search export --run NAME --out DIR --format transformers --push-to-hub": "uploads",
    "sam2-search run --space lora.yaml --on-end": "on the demo, in tests/jobs/test_main_job.py",
    "sam2-search COMMAND": "any command",
    "python -m search.COMMAND": "any command",
}
TINY = "--num-trials 1 --max-epochs 1 --confirm 0 --max-concurrent 1"
# What is appended: how a command begins -> options.
APPENDED = {
    "run --space lora.yaml --data data --dry-run": "",
    "run --space lora.yaml --data data --model large": f"{TINY} --model nano --name NAME",
    "run --space lora.yaml --data data --model large --checkpoint sam2.1_hiera_large.pt --dry-run": "--model nano",
    "run --space classprompts.yaml": f"{TINY} --name classes",
    "run --space fusion.yaml": "--dry-run",  # whole in tests/jobs/spaces
    "run --space lora.yaml --data data --warm-start RUN": "--dry-run",
    "run --resume": "",
    "resume NAME --num-trials 40": "--num-trials 2",
    "run": TINY,
    "check": "--model nano",
    "export --run NAME --out DIR --format": "--format transformers",  # onnx takes long, and samapi has no nano
}
IN_PLACE = {"RUN": "NAME", "runs/NAME/export": "runs/classes/export", "IMAGE...": "data/images/region-00.png"}
# With nothing to do, these are wrong input.
REFUSED = ("resume NAME --retry-failed",)


def list_printed(page: Path) -> list[str]:
    """Returns the commands of a page in their order: lines of blocks without a language, and what backquotes hold."""
    found = []
    for match in PRINTED.finditer(page.read_text()):
        language, block, prose = match.groups()
        if prose and re.match(PROGRAMS, prose):
            found.append(prose)
        elif block and not language:
            found += [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return found


def list_ours() -> list[tuple[str, str]]:
    """Returns page and command, from the verb on, of every command of this project."""
    found = [(page.name, re.search(rf"{OURS}(\w+.*)", line)) for page in PAGES for line in list_printed(page)]
    return [(page, match[1]) for page, match in found if match]


def split_words(command: str) -> list[str]:
    """Returns verb and arguments as the shell gives them: without comments, redirections, and what may be left out."""
    typed = re.split(r"\s[|>&]|\s\.\.\.|\)\"", command)[0]
    typed = re.sub(r"\[(--[^]]*)\]", r"\1", typed)  # [--json] may be left out
    return [word for word in shlex.split(typed, comments=True) if word not in ("[RUN", "...]")]


@pytest.mark.parametrize(("page", "command"), list_ours())
def test_a_printed_command_is_understood(page: str, command: str) -> None:
    verb, *words = split_words(command)
    if verb.isupper():  # COMMAND stands for any
        return
    assert verb in VERBS, f"{page} prints the verb {verb}"
    if words:  # else the command's name alone, in a sentence
        make_verb_parser(verb).parse_args(words)


def find_reason(line: str) -> str | None:
    return next((begin for begin in NOT_RUN if line.startswith(begin)), None)


def list_walk() -> list[Any]:
    """Returns what is run, in order: each command and each block of Python of the guides, once."""
    steps: dict[tuple[str, str], str] = {}
    for page in GUIDES:
        for match in PRINTED.finditer(page.read_text()):
            language, block, prose = match.groups()
            if language == "python":
                steps.setdefault(("python", block), page.name)
                continue
            lines = [prose] if prose and re.match(PROGRAMS, prose) else []
            if block and not language:
                lines = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
            for line in lines:
                if find_reason(line) is None:
                    ours = re.search(rf"{OURS}(\w+.*)", line)
                    steps.setdefault(("command", shlex.join(split_words(ours[1])) if ours else line), page.name)
    return [pytest.param(*step, id=f"{page}: {step[1].splitlines()[0][:70]}") for step, page in steps.items()]


def test_what_is_not_run_is_printed_and_has_a_reason() -> None:
    lines = [line for page in GUIDES for line in list_printed(page)]
    used = {find_reason(line) for line in lines}
    assert set(NOT_RUN) == used - {None}
    others = [line for line in lines if find_reason(line) is None and not re.search(OURS, line)]
    assert not others, "neither run nor left out for a reason"


@pytest.fixture(scope="module")
def folder(make_work_folder: Callable[[str], Path], tiny_sam1_file: Path) -> Iterator[Path]:
    """Where the reader works: regions in ``data``, and weights under the names that the guides print."""
    import ray
    import torch

    import search.stages.main_job as main_job
    from trainables.model.pathology_encoder import load_encoder
    from trainables.model.weights import load_model

    folder = make_work_folder("guides")
    with (folder / "data" / "dataset.yaml").open("a") as file:
        file.write("um_per_px: 0.5\n")
    torch.save({"model": load_model("nano", None).state_dict()}, folder / "sam2.1_hiera_large.pt")
    torch.save(load_encoder("ctranspath", None).network.state_dict(), folder / "ctranspath.pth")
    shutil.copy(tiny_sam1_file, folder / "medsam_vit_b.pth")
    stop, start, client = ray.shutdown, main_job.start_ray, start_server()

    def begin(address: str | None) -> None:
        with instead_of_python(client):
            start(address)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        # One Ray for all, whose workers are forked from a process that has imported what they need.
        patch.setattr(main_job, "start_ray", lambda address: ray.is_initialized() or begin(address))
        patch.setattr(ray, "shutdown", lambda: None)
        yield folder
    stop()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "printed"), list_walk())
def test_the_guides_can_be_followed(kind: str, printed: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "python":
        run_python(printed, folder)
        return
    from search.console import main

    prepare_files(folder)
    words = [IN_PLACE.get(word, word) for word in shlex.split(printed)]
    if "ID" in words:
        words[words.index("ID")] = next((folder / "runs" / "NAME" / "trials").glob("trial*/")).name.rpartition("-")[2]
    begins = [begin for begin in APPENDED if printed.startswith(begin)]
    words += APPENDED[max(begins, key=len)].split() if begins else []
    code = main(words)
    said = capsys.readouterr()
    assert code == (2 if printed in REFUSED else 0), said.out + said.err


def prepare_files(folder: Path) -> None:
    """Lets ``DIR`` be a new folder for each command, and ``FILE.csv`` hold scores in columns ``A`` and ``B``."""
    shutil.rmtree(folder / "DIR", ignore_errors=True)
    scores = folder / "runs" / "NAME" / "scores_test.csv"
    if scores.is_file():
        header, *rows = scores.read_text().splitlines()
        named = header.replace("winner", "A").replace("zeroshot", "B")
        (folder / "FILE.csv").write_text("\n".join([named, *rows]) + "\n")


def run_python(code: str, folder: Path) -> None:
    """Runs a block of a page; a search in it is small."""
    import mlflow
    import numpy as np

    import search
    from trainables.data.images import read_image

    whole = search.run_search
    small = {"num_trials": 1, "max_epochs": 1, "confirm": 0, "max_concurrent": 1}
    image = read_image(folder / "data" / "images" / "region-00.png")
    names = {"image": image, "boxes": np.array([[20.0, 20.0, 120.0, 120.0]])}
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "run_search", lambda space, **options: whole(space, **options | small), raising=False)
        exec(code.replace("OTHER", "NAME"), names)
    if "masks" in names:
        assert names["masks"].shape == (1, *image.shape[:2])


NOTEBOOK = ROOT / "examples" / "search.ipynb"


def test_the_notebook_holds_its_outputs_and_is_small() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    numbers = [cell["execution_count"] for cell in cells]
    assert numbers == list(range(1, len(cells) + 1))
    shown = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", ()) for output in shown) == 2
    assert not [output for output in shown if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.slow
def test_the_notebook_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first cell says what is searched: here the search of the guides, which has ended."""
    first, *others = (cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code")
    assert "".join(first["source"]).startswith("SEARCH = {")
    names: dict[str, Any] = {"SEARCH": {"resume": "NAME"}}
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    for cell in others:
        exec("".join(line for line in cell["source"] if not line.startswith("%")), names)
    assert names["outcome"].folder == folder / "runs" / "NAME"


# What no search of the guides has: a row of a table in docs/files.md -> why.
RARE_FILES = {
    "pareto.json": "two objectives",
    "protocols.json": "trains nothing",
    "soups/": "several seeds",
    "naming/": "no CLIP",
    "confirmation/": "no confirmation",
    "refit/": "no folds",
}
RARE_METRICS = {
    "val_false_positives": "no normal tissue",
    "activation_checkpointing": "no GPU",
    "regions_per_pass": "no GPU",
    "system/FIGURE": "no GPU",
    "val_naming_METHOD_FIGURE": "no CLIP",
    "test_naming_METHOD_FIGURE": "no CLIP",
}


def read_rows(head: str) -> list[str]:
    """Returns what stands between backquotes in the first cells of a table of docs/files.md."""
    _, _, below = (ROOT / "docs" / "files.md").read_text().partition(f"| {head} |")
    rows = below.partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall("`([^`]+)`", row.split("|")[1])]


@pytest.mark.slow
def test_the_files_of_a_search_are_those_of_the_page(folder: Path) -> None:
    listed = [name.replace("NAME", "*").replace("-1", "-*").rstrip("/") for name in read_rows("file")]
    files = {path.name for path in (folder / "runs").glob("[!.]*/[!.]*")}
    assert not {name for name in files if not any(fnmatch.fnmatch(name, each) for each in listed)}
    rare = {name.rstrip("/") for name in RARE_FILES}
    assert {each for each in listed if not fnmatch.filter(files, each)} == rare


@pytest.mark.slow
def test_the_metrics_in_mlflow_are_those_of_the_page(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "mlflow.db") as store:
        logged = {name for (name,) in store.execute("select distinct key from metrics")}
    listed = {name: re.sub("CLASS|PART|METHOD|FIGURE", "*", name) for name in read_rows("metric")}
    assert not {name for name in logged if not any(fnmatch.fnmatch(name, each) for each in listed.values())}
    assert {name for name, each in listed.items() if not fnmatch.filter(logged, each)} == set(RARE_METRICS)
