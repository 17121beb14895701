"""Data sets spoiled in one way each: the pre-flight names the file and the fault."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from search.statistics import MIN_PATIENTS
from trainables.data.checks import MIN_TEST_PATIENTS

Spoil = Callable[[Path], object]
IMAGE, MASK = "images/r03.png", "masks/r03.png"


def load(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def cut(part: str, n_bytes: int) -> Spoil:
    return lambda root: (root / part).write_bytes((root / part).read_bytes()[:n_bytes])


def redraw(part: str, change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Spoil:
    """Replaces a picture by one made from its pixels."""
    return lambda root: Image.fromarray(change(load(root / part))).save(root / part, **options)


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


def truncate_jpeg(root: Path) -> None:
    redraw(IMAGE, np.array, format="JPEG")(root)
    cut(IMAGE, (root / IMAGE).stat().st_size * 2 // 3)(root)


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


def save_16_bit(root: Path) -> None:
    done, content = cv2.imencode(".png", load(root / IMAGE).astype(np.uint16) * 257)
    assert done
    (root / IMAGE).write_bytes(content.tobytes())


def animate(root: Path) -> None:
    frame = Image.open(root / IMAGE)
    frame.save(root / IMAGE, save_all=True, append_images=[Image.new("RGB", frame.size, "red")])


def bomb(root: Path) -> None:
    """Claims 600 megapixels in 70 bytes."""
    header = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (root / IMAGE).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def make_pipe(root: Path) -> None:
    (root / IMAGE).unlink()
    os.mkfifo(root / IMAGE)


def dangle(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to(root / "nowhere.png")


def without_class(parts: slice, one: int) -> Spoil:
    def spoil(root: Path) -> None:
        for path in sorted((root / "masks").iterdir())[parts]:
            redraw(f"masks/{path.name}", lambda mask: np.where(mask == one, 1, mask).astype(np.uint8))(root)

    return spoil


def keep(n_regions: int) -> Spoil:
    """Removes all but the first regions, and the split."""

    def spoil(root: Path) -> None:
        (root / "dataset.yaml").unlink()
        for folder in ("images", "masks"):
            for path in sorted((root / folder).iterdir())[n_regions:]:
                path.unlink()

    return spoil


def set_key(**keys: object) -> Spoil:
    """Changes keys of dataset.yaml."""

    def spoil(root: Path) -> None:
        path = root / "dataset.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))

    return spoil


def rename(old: str, new: str) -> Spoil:
    return lambda root: (root / old).rename(root / new)


def copy(old: str, new: str) -> Spoil:
    return lambda root: shutil.copy(root / old, root / new)


def copy_region(old: str, new: str) -> Spoil:
    return lambda root: [shutil.copy(root / part / old, root / part / new) for part in ("images", "masks")]


def color(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask * 10, mask, 255 - mask], axis=2)


def wide(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint16) + 300


def to_plot(image: np.ndarray) -> np.ndarray:
    plot = np.full_like(image, 255)
    plot[20], plot[:, 6] = 0, (200, 30, 30)
    return plot


LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nclasses: [*b, *b, *b]\n"

FINDINGS: dict[str, tuple[Spoil, str, str]] = {
    # Files that cannot be read.
    "zero-byte image": (write(IMAGE, b""), IMAGE, "0 bytes"),
    "zero-byte mask": (write(MASK, b""), MASK, "0 bytes"),
    "truncated image": (cut(IMAGE, 900), IMAGE, "cannot be decoded"),
    "truncated mask": (cut(MASK, 70), MASK, "cannot be decoded"),
    "truncated JPEG": (truncate_jpeg, IMAGE, "cannot be decoded"),
    "JPEG of which the end is lost": (blank_end, IMAGE, "cannot be decoded"),
    "flipped byte": (flip_byte, IMAGE, "cannot be decoded"),
    "folder for an image": (replace_by_folder, MASK, "has no image"),
    "text for an image": (write(IMAGE, "not a picture"), IMAGE, "no PNG, JPEG or TIFF"),
    "page of a server for a mask": (write(MASK, "<html>404</html>"), MASK, "no PNG, JPEG or TIFF"),
    "broken header": (write(IMAGE, b"\x89PNG\r\n\x1a\n" + bytes(40)), IMAGE, "cannot be decoded"),
    "link to nothing": (dangle, IMAGE, "cannot be read"),
    "pipe": (make_pipe, IMAGE, "no plain file"),
    "image bomb": (bomb, IMAGE, "30000 x 20000 pixels"),
    # Kinds of pictures.
    "16-bit image": (redraw(IMAGE, lambda image: image[..., 0].astype(np.uint16) * 257), IMAGE, "more than 8 bits"),
    "16-bit RGB image": (save_16_bit, IMAGE, "more than 8 bits"),
    "TIFF of several pages": (
        lambda root: Image.open(root / IMAGE).save(
            root / IMAGE, format="TIFF", save_all=True, append_images=[Image.new("RGB", (48, 40), "red")]
        ),
        IMAGE,
        "2 pictures",
    ),
    "GIF under an image's name": (
        lambda root: Image.open(root / IMAGE).save(root / IMAGE, format="GIF"),
        IMAGE,
        "no PNG, JPEG or TIFF",
    ),
    "animated image": (animate, IMAGE, "2 pictures"),
    "animated mask": (
        lambda root: Image.open(root / MASK).save(
            root / MASK, save_all=True, append_images=[Image.new("L", (48, 40), 1)]
        ),
        MASK,
        "2 pictures",
    ),
    # Masks that hold no class ids.
    "colors in a mask": (redraw(MASK, color), MASK, "colors in place of class ids"),
    "JPEG under a mask's name": (write_as_jpeg, MASK, "JPEG-compressed"),
    "JPEG in a TIFF as a mask": (
        lambda root: Image.open(root / MASK).save(root / MASK, format="TIFF", compression="jpeg"),
        MASK,
        "JPEG-compressed",
    ),
    "image as its mask": (lambda root: shutil.copy(root / IMAGE, root / MASK), MASK, "colors in place of class ids"),
    "JPEG as a mask": (rename(MASK, "masks/r03.jpg"), IMAGE, "r03.jpg is JPEG"),
    "blurred 0/255 mask": (redraw(MASK, blur_as_jpeg(14)), MASK, "different ids, as a blurred"),
    "0/255 mask": (redraw(MASK, lambda mask: (mask > 1).astype(np.uint8) * 255), MASK, "looks like 0/255"),
    "ids above 255": (redraw(MASK, wide), MASK, "class ids are in 0..255"),
    "fractions": (
        lambda root: Image.fromarray(np.ones((40, 48), np.float32)).save(root / MASK, format="TIFF"),
        MASK,
        "fractions",
    ),
    "empty mask": (redraw(MASK, np.zeros_like), MASK, "none of the classes, only ids 0"),
    "mask of ids without a class": (redraw(MASK, lambda mask: mask * 0 + 7), MASK, "none of the classes, only ids 7"),
    "one id an object": (
        redraw(MASK, lambda mask: np.arange(mask.size).reshape(mask.shape).astype(np.uint8)),
        MASK,
        "one id an object",
    ),
    "sizes that differ": (redraw(MASK, lambda mask: mask[:-1]), MASK, "48 x 39 pixels"),
    "turned mask": (redraw(MASK, lambda mask: mask.T), MASK, "40 x 48 pixels"),
    # Pairs and names.
    "missing mask": (lambda root: (root / MASK).unlink(), IMAGE, "has no mask"),
    "missing image": (lambda root: (root / IMAGE).unlink(), MASK, "has no image"),
    "partner of another case": (rename(MASK, "masks/R03.png"), IMAGE, "R03.png differs in case"),
    "two names that differ in case": (copy_region("r03.png", "R03.png"), "images/R03.png", "differ in case only"),
    "two suffixes of one stem": (copy(IMAGE, "images/r03.tif"), IMAGE, "share one stem"),
    "line break in a name": (copy_region("r03.png", "r\n3.png"), "images", "no printable text"),
    "bytes that are no text in a name": (
        lambda root: Path(os.fsdecode(os.fsencode(root / "images") + b"/\xff.png")).write_bytes(b""),
        "images",
        "no printable text",
    ),
    "no masks": (lambda root: shutil.rmtree(root / "masks"), "masks", "no such folder"),
    "empty folders": (keep(0), "images", "holds no PNG, JPEG or TIFF"),
    # The split.
    "same pixels in two parts": (copy("images/r03.png", "images/r15.png"), "split", "same pixels"),
    "turned pixels in two parts": (
        lambda root: [
            Image.fromarray(np.rot90(load(root / part / "r03.png"))).save(root / part / "r15.png")
            for part in ("images", "masks")
        ],
        "split",
        "perhaps turned",
    ),
    "one patient in two parts": (set_key(patients={"r00.png": "p", "r19.png": "p"}), "split", "patient p stands in 2"),
    "two regions": (keep(2), "data", "fewer than 3"),
    "empty part": (set_key(split={"train": ["r00.png"], "val": [], "test": ["r01.png"]}), "split.val", "is empty"),
    "region in two parts": (
        set_key(split={"train": ["r00.png"], "val": ["r00.png"], "test": ["r01.png"]}),
        "split.val",
        "stands in train and val",
    ),
    "unknown name in a part": (
        set_key(split={"train": ["r0.png"], "val": ["r02.png"], "test": ["r01.png"]}),
        "split.train",
        "no region is called r0.png",
    ),
    # dataset.yaml.
    "yaml with a tab": (write("dataset.yaml", "classes:\n\t1: a\n"), "dataset.yaml", "cannot be read"),
    "yaml that nests names": (write("dataset.yaml", LAUGHS), "dataset.yaml", "alias"),
    "yaml nested deeply": (write("dataset.yaml", "name: " + "[" * 400 + "]" * 400), "dataset.yaml", "levels deep"),
    "yaml nested very deeply": (write("dataset.yaml", "[" * 99_999), "dataset.yaml", "cannot be read"),
    "yaml that runs code": (write("dataset.yaml", "name: !!python/object/apply:os.abort []"), "dataset.yaml", "python"),
    "yaml with a key twice": (write("dataset.yaml", "name: a\nname: b\n"), "dataset.yaml", "key name stands more"),
    "yaml with a broken tag": (write("dataset.yaml", "name: !!timestamp x"), "dataset.yaml", "cannot be read"),
    "yaml of a list": (write("dataset.yaml", "[a, b]"), "dataset.yaml", "no mapping"),
    "yaml of bytes": (write("dataset.yaml", b"\xff\xfe\x00\x01"), "dataset.yaml", "cannot be read"),
    "unknown key": (set_key(clases={1: "a"}), "dataset.yaml clases", "did you mean classes?"),
    "class id beyond a byte": (set_key(classes={300: "a"}), "classes.300", "0..255"),
    "class ignored and scored": (set_key(ignore=[1]), "ignore", "also the class tumor"),
    "patient of no file": (set_key(patients={"r99.png": "p"}), "patients.r99.png", "no such image"),
    "nobody as patient": (set_key(patients={"r00.png": None}), "patients.r00.png", "None"),
}

WARNINGS: dict[str, tuple[Spoil, str, str]] = {
    "ids that BCSS does not define": (
        redraw(MASK, lambda mask: np.where(mask == 0, 77, mask).astype(np.uint8)),
        MASK,
        "BCSS does not define: 77",
    ),
    "ids of an interpolated mask": (
        redraw(MASK, lambda mask: np.array(Image.fromarray(mask).resize((96, 80)).resize((48, 40)))),
        MASK,
        "blurred",
    ),
    "ids of a JPEG, saved as PNG": (redraw(MASK, blur_as_jpeg(1)), MASK, "blurred"),
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
    "slides among the images": (write("images/r03.svs", "slide"), "images", "r03.svs"),
}

SOUND: dict[str, Spoil] = {
    "nothing": lambda root: None,
    "RGBA image": redraw(IMAGE, lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])),
    "palette image": lambda root: Image.open(root / IMAGE).convert("P").save(root / IMAGE),
    "CMYK image": lambda root: Image.open(root / IMAGE).convert("CMYK").save(root / IMAGE, format="TIFF"),
    "JPEG image": lambda root: Image.open(root / IMAGE).save(root / IMAGE, format="JPEG"),
    "palette mask": lambda root: Image.open(root / MASK).convert("P").save(root / MASK),
    "gray RGB mask": redraw(MASK, lambda mask: np.stack([mask] * 3, axis=2)),
    "16-bit mask of small ids": redraw(MASK, lambda mask: mask.astype(np.uint16)),
    "hidden files": write("images/.DS_Store", "x"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_what_stops_a_search(name: str, data: Path, check: Callable, assert_told: Callable) -> None:
    spoil, where, what = FINDINGS[name]
    spoil(data)
    outcome = check()
    assert outcome.code == 2
    assert_told(outcome.findings, where, what)


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_worth_a_look(name: str, data: Path, check: Callable, assert_told: Callable) -> None:
    spoil, where, what = WARNINGS[name]
    spoil(data)
    outcome = check()
    assert (outcome.code, outcome.findings) == (0, ())
    assert_told(outcome.warnings, where, what)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound(name: str, data: Path, check: Callable) -> None:
    SOUND[name](data)
    outcome = check()
    assert (outcome.code, outcome.findings, outcome.warnings) == (0, (), ())


def test_as_many_test_patients_are_asked_for_as_a_verdict_needs() -> None:
    assert MIN_TEST_PATIENTS == MIN_PATIENTS


def test_a_fault_in_the_classes_is_not_told_of_each_mask(data: Path, check: Callable) -> None:
    set_key(clases={1: "a"})(data)
    redraw(MASK, np.zeros_like)(data)
    assert len(check().findings) == 1


def test_a_missing_mask_is_not_told_of_the_split_too(data: Path, check: Callable) -> None:
    (data / MASK).unlink()
    assert len(check().findings) == 1
