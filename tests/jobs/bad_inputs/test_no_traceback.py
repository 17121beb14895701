"""Whatever a file holds, its reader answers with a value or with findings."""

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from search.errors import ConfigError
from search.space.config import load_config
from trainables.data.images import decode_image, decode_mask
from trainables.data.regions import list_regions
from trainables.errors import DataError, InputError
from trainables.files.yaml_lines import read_yaml
from trainables.recipe import list_rules

BOUNDS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
FORMATS = {"PNG": MODES[:6] + ("I;16",), "TIFF": MODES, "JPEG": ("L", "RGB", "CMYK")}
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")

keys = st.sampled_from(["name", "space", "fixed", "num_trials", "scheduler", "kind", "low", "high", "log", "choice"])
fields = st.sampled_from(sorted(list_rules()))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | fields | scalars, inner, max_size=5),
    max_leaves=15,
)
ranges = st.fixed_dictionaries(
    {}, optional={key: scalars | st.lists(scalars, max_size=3) for key in ("low", "high", "log", "step", "choice")}
)
spaces = st.fixed_dictionaries(
    {"space": st.dictionaries(fields, ranges | trees, max_size=4)},
    optional={"fixed": st.dictionaries(fields, scalars, max_size=3), "start_from": trees, "sampler": trees},
)
tags = st.sampled_from("!!int !!float !!timestamp !!binary !!bool !!set !!omap !x &a *a <<:".split())
marks = st.sampled_from([*"{}[]:,-?|>'\"\n\t #%@`", "- ", ": ", "\n  "])
snippets = st.lists(tags | keys | marks | st.text(max_size=4))
yaml_bytes = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | snippets.map(lambda parts: " ".join(parts).encode("utf-8", "surrogatepass"))
    | trees.map(lambda tree: yaml.dump(tree).encode("utf-8", "surrogatepass"))
    | spaces.map(lambda tree: yaml.dump(tree).encode("utf-8", "surrogatepass"))
)


@BOUNDS
@given(content=yaml_bytes)
def test_space_files(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_bytes(content)
        for read, expected in ((read_yaml, InputError), (load_config, ConfigError)):
            try:
                read(path)
            except expected as error:
                assert str(error)


set_keys = st.sampled_from(["name", "classes", "ignore", "split", "patients", "train", "val", "test"])
set_values = trees | st.dictionaries(set_keys | scalars, scalars | st.lists(scalars))
set_yaml = st.dictionaries(set_keys, set_values, max_size=5)


@BOUNDS
@given(content=yaml_bytes | set_yaml.map(lambda tree: yaml.dump(tree).encode("utf-8", "surrogatepass")))
def test_dataset_files(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for part in ("images", "masks"):
            (Path(folder) / part).mkdir()
            Image.new("L", (4, 4), 1).save(Path(folder) / part / "a.png")
        (Path(folder) / "dataset.yaml").write_bytes(content)
        listing = list_regions(Path(folder))
        assert all(each.where and each.what and each.fix for each in listing.findings)


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A small picture of any kind, with some of its bytes changed or its end cut off."""
    kind = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[kind]))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 300, (height, width))
    picture = Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else Image.fromarray(values.astype(np.uint8))
    if mode in ("I", "F"):
        picture = Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    elif mode != "I;16":
        picture = picture.convert("RGB").convert(mode) if mode == "CMYK" else picture.convert(mode)
    options = {}
    if kind == "TIFF" and mode in ("L", "RGB", "P", "CMYK"):
        options["compression"] = draw(st.sampled_from(COMPRESSIONS if mode in ("L", "RGB") else COMPRESSIONS[:4]))
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    content = bytearray(buffer.getvalue())
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[position] = value
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])


@pytest.mark.filterwarnings("ignore")  # of Pillow, on what it repairs
@settings(BOUNDS, max_examples=400)
@given(content=pictures() | st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: b"II*\0" + tail))
def test_pictures(content: bytes) -> None:
    for decode, n_axes in ((decode_mask, 2), (decode_image, 3)):
        try:
            pixels = decode(content, "a.png")
        except DataError as error:
            assert str(error).startswith("a.png: ")
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == n_axes and pixels.size
