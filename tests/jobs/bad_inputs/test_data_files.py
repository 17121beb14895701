"""Data sets spoiled in one way each: the pre-flight names the file and the fault."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from search.judging.verdict import MIN_PATIENTS
from trainables.data.checks import MIN_TEST_PATIENTS

Spoil = Callable[[Path], object]
IMAGE, MASK = "images/r03.png", "masks/r03.png"


def load(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def redraw(part: str, change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Spoil:
    return lambda root: Image.fromarray(change(load(root / part))).save(root / part, **options)


def resave(part: str, mode: str = "", **options: Any) -> Spoil:
    def save(root: Path) -> None:
        picture = Image.open(root / part)
        (picture.convert(mode) if mode else picture).save(root / part, **options)

    return save


def write(part: str, content: bytes | str) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / part).write_bytes(data)


def write_as_jpeg(root: Path) -> None:
    buffer = BytesIO()
    Image.fromarray(load(root / MASK)).save(buffer, "JPEG")
    (root / MASK).write_bytes(buffer.getvalue())


def blur_as_jpeg(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    def blur(mask: np.ndarray) -> np.ndarray:
        buffer = BytesIO()
        Image.fromarray(mask * np.uint8(scale)).save(buffer, "JPEG", quality=60)
        return np.array(Image.open(buffer))

    return blur


def blank_end(root: Path) -> None:
    """Leaves what a copy that broke off leaves where the room had been set aside: zeros."""
    redraw(IMAGE, np.array, format="JPEG")(root)
    content = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def flip_byte(root: Path) -> None:
    content = bytearray((root / IMAGE).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (root / IMAGE).write_bytes(content)


def replace_by_folder(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).mkdir()


def bomb(root: Path, part: str = IMAGE) -> None:
    """Claims 600 megapixels in 70 bytes."""
    header = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (root / part).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def make_pipe(root: Path) -> None:
    (root / IMAGE).unlink()
    os.mkfifo(root / IMAGE)


def put_slide(root: Path) -> None:
    """Puts a file of 30 GB there that takes no room on the disk."""
    os.truncate(root / IMAGE, 30_000_000_000)


def dangle(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to(root / "nowhere.png")


def without_class(parts: slice, one: int) -> Spoil:
    def spoil(root: Path) -> None:
        for path in sorted((root / "masks").iterdir())[parts]:
            redraw(f"masks/{path.name}", lambda mask: np.where(mask == one, 1, mask).astype(np.uint8))(root)

    return spoil


def keep(n_regions: int) -> Spoil:
    def spoil(root: Path) -> None:
        set_key(split=None)(root)
        for folder in ("images", "masks"):
            for path in sorted((root / folder).iterdir())[n_regions:]:
                path.unlink()

    return spoil


def set_key(**keys: object) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "dataset.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))

    return spoil


def rename(old: str, new: str) -> Spoil:
    return lambda root: (root / old).rename(root / new)


def copy(old: str, new: str) -> Spoil:
    return lambda root: shutil.copy(root / old, root / new)


def number_objects(most: int) -> Spoil:
    """Gives each of 1 to ``most`` stripes in a mask an id of its own."""

    def spoil(root: Path) -> None:
        for number, path in enumerate(sorted((root / "masks").iterdir())):
            ids = np.arange(1, 2 + number % most, dtype=np.uint8)
            mask = np.zeros((40, 48), np.uint8)
            mask[4:36, 4 : 4 + 6 * len(ids)] = np.repeat(ids, 6)
            Image.fromarray(mask).save(path)

    return spoil


def name_as_tcga(root: Path) -> None:
    """Gives each region the name of another patient, and removes dataset.yaml."""
    (root / "dataset.yaml").unlink()
    for folder in ("images", "masks"):
        for path in (root / folder).iterdir():
            path.rename(path.with_name(f"TCGA-AA-00{path.name[1:]}"))


# One name on the screen: the first as most systems write it, the second as macOS does.
COMPOSED, DECOMPOSED = "\u00e9.png", "e\u0301.png"


def rename_all(image: str, mask: str, named: str) -> Spoil:
    """Renames a region's files, and names it in the split and among the patients."""

    def spoil(root: Path) -> None:
        (root / IMAGE).rename(root / "images" / image)
        (root / MASK).rename(root / "masks" / mask)
        path = root / "dataset.yaml"
        path.write_text(path.read_text().replace("r03.png", named) + f"patients: {{{named}: p}}\n")

    return spoil


def color(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask * 10, mask, 255 - mask], axis=2)


def to_plot(image: np.ndarray) -> np.ndarray:
    plot = np.full_like(image, 255)
    plot[20], plot[:, 6] = 0, (200, 30, 30)
    return plot


def both(*spoils: Spoil) -> Spoil:
    return lambda root: [spoil(root) for spoil in spoils]


FIVE = "1: a, 2: b, 3: c, 4: d, 18: e"


def put_id(one: int, part: str = MASK) -> Spoil:
    """Gives the border of a mask, 640 pixels, another id."""
    return redraw(part, lambda mask: np.where(mask == 0, one, mask).astype(np.uint8))


def declare(classes: str) -> Spoil:
    return lambda root: (root / "dataset.yaml").write_text(f"classes: {{{classes}}}\n")


def save_colors(name: str, *colors: tuple[int, int, int], first: int = 0) -> Spoil:
    """Saves a mask as stripes of palette indices, from the first one on."""

    def save(root: Path) -> None:
        stripes = first + np.arange(48) * (len(colors) - first) // 48
        mask = Image.fromarray(np.tile(stripes.astype(np.uint8), (40, 1)))
        mask = mask.convert("P")
        mask.putpalette([value for color in colors for value in color])
        mask.save(root / "masks" / name)

    return save


def save_as_voc(path: Path) -> None:
    """Saves a mask's ids as indices into a palette of vivid colors, and its border as 255."""
    ids = load(path)
    mask = Image.fromarray(np.where(ids == 0, 255, ids).astype(np.uint8)).convert("P")
    mask.putpalette([value for index in range(256) for value in (index * 67 % 256, index * 29 % 256, index)])
    mask.save(path)


TWO_ORDERS = [((0, 0, 0), (255, 0, 0), (0, 255, 0)), ((0, 0, 0), (0, 255, 0), (255, 0, 0))]


def bomb_tiff(root: Path) -> None:
    """Claims 160 megapixels, as many as are allowed, in a file of 20 bytes of pixels."""
    Image.new("RGB", (8, 8)).save(root / IMAGE, format="TIFF")
    content = (root / IMAGE).read_bytes()
    for tag in (256, 257):  # width and height, 32 bits each
        at = content.index(struct.pack("<HH", tag, 4))
        content = content[: at + 8] + struct.pack("<I", 12_000) + content[at + 12 :]
    (root / IMAGE).write_bytes(content)


def bomb_text(root: Path) -> None:
    """Adds a note of 200 MB, packed into 200 KB."""
    note = PngInfo()
    note.add_text("Comment", "x" * 200_000_000, zip=True)
    Image.open(root / IMAGE).save(root / IMAGE, pnginfo=note)


FINDINGS: dict[str, tuple[Spoil, str, str]] = {
    # Files that cannot be read.
    "JPEG whose end is lost": (blank_end, IMAGE, "cannot be decoded"),
    "flipped byte": (flip_byte, IMAGE, "cannot be decoded"),
    "folder for an image": (replace_by_folder, MASK, "has no image"),
    "text for an image": (write(IMAGE, "not a picture"), IMAGE, "no PNG, JPEG or TIFF"),
    "broken header": (write(IMAGE, b"\x89PNG\r\n\x1a\n" + bytes(40)), IMAGE, "cannot be decoded"),
    "link to nothing": (dangle, IMAGE, "cannot be read"),
    "pipe": (make_pipe, IMAGE, "no plain file"),
    "whole slide": (put_slide, IMAGE, "has 30,000,000,000 bytes, more than 890,000,000"),
    "image bomb": (bomb, IMAGE, "30000 x 20000 pixels"),
    # Kinds of pictures.
    # Masks that hold no class ids.
    "JPEG under a mask's name": (write_as_jpeg, MASK, "JPEG-compressed"),
    "blurred 0/255 mask": (redraw(MASK, blur_as_jpeg(14)), MASK, "different ids, as a blurred"),
    "one id an object": (
        redraw(MASK, lambda mask: np.arange(mask.size).reshape(mask.shape).astype(np.uint8)),
        MASK,
        "one id an object",
    ),
    "an id that is no class of the data set": (
        both(put_id(77), declare("1: a, 2: b, 3: c, 4: d, 18: e, 0: f")),
        MASK,
        "77 (640 pixels) -> the classes are 0 f, 1 a",
    ),
    "an id of BCSS that the data set does not list": (
        declare("1: tumor"),
        MASK,
        "list the ids in dataset.yaml, of no class under `background`",
    ),
    "an unknown id in one part of the split": (
        lambda root: [put_id(9, f"masks/r{number}.png")(root) for number in range(14, 20)] and declare(FIVE)(root),
        "masks/r14.png",
        "9 (640 pixels)",
    ),
    "ids of a JPEG, saved as PNG": (redraw(MASK, blur_as_jpeg(1)), MASK, "no class, not ignored and no background"),
    "palette that is a color code": (
        save_colors("r03.png", *((index, 255 - index, index) for index in range(30, 200))),
        MASK,
        "the indices are read and not the colors",
    ),
    "palette that is a color code, without a class among its indices": (
        save_colors("r03.png", *[(0, 0, 0)] * 40, (255, 0, 0), (0, 255, 0), first=40),
        MASK,
        "40 #ff0000, 41 #00ff00",
    ),
    "CMYK mask": (
        lambda root: Image.open(root / MASK).convert("RGB").convert("CMYK").save(root / MASK, format="TIFF"),
        MASK,
        "colors in place of class ids",
    ),
    "RGBA mask of colors": (
        redraw(MASK, lambda mask: np.dstack([color(mask), np.full_like(mask, 255)])),
        MASK,
        "colors in place of class ids",
    ),
    "masks of ids without their names": (set_key(classes=None), "dataset.yaml classes", "18: name of 18}`"),
    "objects numbered, and one class": (both(number_objects(3), declare("1: gland")), "masks/r02.png", "as it looks"),
    "nothing but background among the classes": (set_key(classes={0: "Background"}), "classes", "no class but"),
    "a part of normal tissue": (
        lambda root: (
            [redraw(f"masks/r{n:02}.png", np.zeros_like)(root) for n in range(8, 14)] and set_key(ignore=[])(root)
        ),
        "split.val",
        "no region of it shows anything that the protocol prompts",
    ),
    "bomb for a mask": (lambda root: bomb(root, MASK), MASK, "30000 x 20000"),
    "bomb of a TIFF": (bomb_tiff, IMAGE, "cannot be decoded"),
    "bomb of a text in a PNG": (bomb_text, IMAGE, "cannot be decoded"),
    "turned mask": (redraw(MASK, lambda mask: mask.T), MASK, "40 x 48 pixels"),
    # Pairs and names.
    "partner of another case and Unicode form": (
        both(rename(IMAGE, f"images/{COMPOSED}"), rename(MASK, f"masks/{DECOMPOSED.upper()}")),
        f"images/{COMPOSED}",
        "differs in case",
    ),
    "bytes that are no text in a name": (
        lambda root: Path(os.fsdecode(os.fsencode(root / "images") + b"/\xff.png")).write_bytes(b""),
        "images",
        "no printable text",
    ),
    "image with an addition to its name": (rename(IMAGE, "images/r03-HE.png"), MASK, "is it r03-HE.png?"),
    "blank at a name's end": (rename(MASK, "masks/r03 .png"), IMAGE, "is it r03 .png?"),
    "suffix twice": (rename(MASK, "masks/r03.png.png"), IMAGE, "is it r03.png.png?"),
    "link to itself": (
        lambda root: [(root / IMAGE).unlink(), (root / IMAGE).symlink_to("r03.png")],
        IMAGE,
        "cannot be read (Too many levels",
    ),
    "images in folders of their parts": (
        lambda root: (
            [(root / "images").rename(root / "train"), (root / "images").mkdir()]
            and (root / "train").rename(root / "images" / "train")
        ),
        "images",
        "not into folders below it",
    ),
    # The split.
    "same pixels in two parts": (copy("images/r03.png", "images/r15.png"), "split", "same pixels"),
    "region in two parts": (
        set_key(split={"train": ["r00.png"], "val": ["r00.png"], "test": ["r01.png"]}),
        "dataset.yaml:14 split.val",
        "stands in train and val",
    ),
    # dataset.yaml.
    "blank name": (write("dataset.yaml", "name: ' '\n"), "dataset.yaml:1 name", "is blank"),
    "number for ignored ids": (write("dataset.yaml", "name: a\nignore: 0"), "dataset.yaml:2 ignore", "must be a list"),
    "list for patients": (write("dataset.yaml", "patients: [p]\n"), "dataset.yaml:1 patients", "but got a list"),
    "blank as patient": (set_key(patients={"r00.png": " "}), "patients.r00.png", "' '"),
    "class of a blank name": (set_key(classes={1: " "}), "classes.1", "the name is ' '"),
    "class of dots": (set_key(classes={1: ".."}), "classes.1", "the name is '..'"),
    "class of a very long name": (set_key(classes={1: "a" * 101}), "classes.1", "at most 100 letters"),
    "classes that differ in case": (set_key(classes={1: "Tumor", 2: "tumor"}), "classes.2", "upper and lower case"),
    "pipe for dataset.yaml": (
        lambda root: [(root / "dataset.yaml").unlink(), os.mkfifo(root / "dataset.yaml")],
        "dataset.yaml",
        "is not a file",
    ),
}

WARNINGS: dict[str, tuple[Spoil, str, str]] = {
    "ids of an interpolated mask": (
        redraw(MASK, lambda mask: np.array(Image.fromarray(mask).resize((96, 80)).resize((48, 40)))),
        MASK,
        "blurred",
    ),
    "palettes that show a class in two colors": (
        lambda root: [save_colors(f"r{number:02}.png", *colors)(root) for number, colors in enumerate(TWO_ORDERS)],
        "masks/r01.png",
        "the color #00ff00, that of",
    ),
    "TCGA names without a dataset.yaml": (name_as_tcga, "dataset.yaml classes", "id 0 does not count"),
    "background among the classes": (
        set_key(classes={0: "_background_", 1: "tumor"}, background=[2, 3, 4, 18]),
        "classes.0",
        "read as `background: [0]`",
    ),
    "normal tissue": (both(redraw(MASK, np.zeros_like), set_key(ignore=[])), "masks", "1 of 20 regions (r03.png)"),
    "class without a region in training": (without_class(slice(0, 8), 18), "classes", "no region of train"),
    "class in training alone": (without_class(slice(8, 20), 3), "classes", "3 lymphocyte is in train alone"),
    "class in no mask": (without_class(slice(0, 20), 4), "classes", "4 necrosis is in no mask"),
    "few regions to train on": (
        set_key(split={"train": ["r00.png"], "val": [f"r{n:02}.png" for n in range(8, 14)], "test": ["r14.png"]}),
        "split.train",
        "train has 1 region: too few",
    ),
    "few regions to choose on": (keep(12), "split.val", "by little more than chance"),
    "few patients to test on": (keep(12), "split.test", "can only be `undecided`"),
    "copies in one part": (copy("images/r03.png", "images/r04.png"), "r03.png", "same pixels"),
    "a plot": (redraw(IMAGE, to_plot), IMAGE, "as bright as empty glass"),
    "a plain color": (redraw(IMAGE, lambda image: np.full_like(image, (150, 90, 160))), IMAGE, "one color all over"),
    "a plain color as JPEG": (
        redraw(IMAGE, lambda image: np.full_like(image, (151, 90, 163)), format="JPEG"),
        IMAGE,
        "one color all over",
    ),
    "a black picture": (redraw(IMAGE, np.zeros_like), IMAGE, "one color all over"),
    "a mask as its image": (lambda root: shutil.copy(root / MASK, root / IMAGE), IMAGE, "is gray"),
    "a transparent image": (
        redraw(IMAGE, lambda image: np.dstack([image, np.zeros(image.shape[:2], np.uint8)])),
        IMAGE,
        "as bright as empty glass",
    ),
    "a gray picture": (redraw(IMAGE, lambda image: np.repeat(image[..., :1], 3, axis=2)), IMAGE, "is gray"),
    "a green photograph": (redraw(IMAGE, lambda image: image[..., [1, 0, 1]]), IMAGE, "pink to purple"),
    "mask folder below": (lambda root: (root / "masks" / "more").mkdir(), "masks", "not read: 'more'"),
    "slides among the images": (write("images/r03.svs", "slide"), "images", "r03.svs"),
}

SOUND: dict[str, Spoil] = {
    "nothing": lambda root: None,
    "RGBA image": redraw(IMAGE, lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])),
    "CMYK image": resave(IMAGE, "CMYK", format="TIFF"),
    "palette masks of the VOC kind, with an ignored border": lambda root: (
        [save_as_voc(root / "masks" / f"r{number:02}.png") for number in range(20)] and set_key(ignore=[0, 255])(root)
    ),
    "mask of another Unicode form": rename_all(COMPOSED, DECOMPOSED, COMPOSED),
    "image of another Unicode form": rename_all(DECOMPOSED, COMPOSED, COMPOSED),
    "dataset.yaml of another Unicode form": rename_all(COMPOSED, COMPOSED, DECOMPOSED),
    "ids of no class that are listed": both(put_id(77), set_key(background=[77])),
    "hidden files": write("images/.DS_Store", "x"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_what_stops_a_search(name: str, data: Path, check: Callable, assert_reported: Callable) -> None:
    spoil, where, what = FINDINGS[name]
    spoil(data)
    outcome = check()
    assert outcome.code == 2
    assert_reported(outcome.findings, where, what)


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_worth_a_look(name: str, data: Path, check: Callable, assert_reported: Callable) -> None:
    spoil, where, what = WARNINGS[name]
    spoil(data)
    outcome = check()
    assert (outcome.code, outcome.findings) == (0, ())
    assert_reported(outcome.warnings, where, what)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound(name: str, data: Path, check: Callable) -> None:
    SOUND[name](data)
    outcome = check()
    assert (outcome.code, outcome.findings, outcome.warnings) == (0, (), ())


def test_as_many_test_patients_are_asked_for_as_a_verdict_needs() -> None:
    assert MIN_TEST_PATIENTS == MIN_PATIENTS


@pytest.mark.parametrize(
    "spoil", [both(set_key(clases={1: "a"}), redraw(MASK, np.zeros_like)), lambda root: (root / MASK).unlink()]
)
def test_a_fault_in_the_classes_or_a_missing_mask_is_reported_once(spoil: Spoil, data: Path, check: Callable) -> None:
    spoil(data)
    assert len(check().findings) == 1
