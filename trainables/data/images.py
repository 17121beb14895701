"""The pixels of one image or mask file: PNG, JPEG and TIFF as they are stored, or a refusal that says why."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from trainables.errors import DataError, Finding

RgbImage = UInt8[np.ndarray, "h w 3"]
IdMask = UInt8[np.ndarray, "mask_h mask_w"]  # not h w: it may differ from its image until that is checked
Palette = Mapping[int, tuple[int, int, int]]  # index -> RGB

# 3.3 mm a side at 0.25 micrometres; a file that claims more could fill the memory. Of TIFFs Pillow refuses 179 million.
MAX_PIXELS = 178_000_000
MAX_FILE_BYTES = 5 * MAX_PIXELS  # RGBA without compression, and room for what else a file says

_READERS: Mapping[bytes, Callable[[BinaryIO], ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
_BITS_TAG, _ORIENTATION_TAG = 0x0102, 0x0112
_UNTURN = {  # the inverse of what each orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def read_image(path: Path) -> RgbImage:
    """Reads an image file; see ``decode_image``."""
    return decode_image(read_bytes(path), str(path))


def read_mask(path: Path) -> IdMask:
    """Reads a mask file; see ``decode_mask``."""
    return decode_mask(read_bytes(path), str(path))


def read_size(path: Path) -> tuple[int, int] | None:
    """Returns a picture's height and width as its header has them, decoding nothing; None where it has none."""
    if not path.is_file():  # opening a pipe waits
        return None
    try:
        with path.open("rb") as stream:
            if (reader := _find_reader(stream.read(8))) is None:
                return None
            stream.seek(0)
            with reader(stream) as picture:
                return picture.height, picture.width
    except Exception:  # what is wrong with the file is told by its decoding
        return None


def read_bytes(path: Path) -> bytes:
    """Reads a whole file.

    Raises:
        DataError: If it cannot be read, is no plain file (a pipe would be waited for, a device never ends), or
            has more than ``MAX_FILE_BYTES`` bytes.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise _refusal(path, "is no plain file", "put the picture itself there")
        if state.st_size > MAX_FILE_BYTES:
            rule = f"cut it into regions of at most {MAX_PIXELS // 10**6} megapixels"
            raise _refusal(path, f"has {state.st_size:,} bytes, more than {MAX_FILE_BYTES:,}", rule)
        return path.read_bytes()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise _refusal(path, what, "check the file and its rights") from error


def decode_image(data: bytes, where: str) -> RgbImage:
    """Decodes a PNG, JPEG or TIFF to RGB, [h, w, 3] in 0..255.

    Transparent pixels are laid over white, the color of a slide without tissue; grayscale, palette and CMYK
    become RGB. Orientation tags are ignored, as the mask beside has none: pixels come as they are stored.

    Args:
        data: The file's bytes.
        where: What findings call the file.

    Raises:
        DataError: If the bytes are no such picture, are cut off, hold several pictures, more than 8 bits a
            channel or more than ``MAX_PIXELS`` pixels.
    """
    with _open_picture(data, where) as picture:
        if picture.mode[0] in "IF" or _has_wide_channels(picture):
            raise _refusal(where, "has more than 8 bits a channel", "save it as 8-bit RGB")
        stored = _load_as_stored(picture)
        if stored.mode in ("RGBA", "LA", "PA") or "transparency" in stored.info:
            above = stored.convert("RGBA")
            stored = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
        return np.array(stored if stored.mode == "RGB" else stored.convert("RGB"))  # not one copy more


def decode_mask(data: bytes, where: str) -> IdMask:
    """Decodes a PNG or TIFF to class ids, [h, w] in 0..255.

    Ids are what the file stores: a palette's index rather than its color, a 2- or 4-bit gray value unscaled.
    Three equal channels count as one, and an alpha channel is left out.

    Args:
        data: The file's bytes.
        where: What findings call the file.

    Raises:
        DataError: As ``decode_image``, and for colors, fractions, ids above 255 and lossy compression.
    """
    fix = "save it as an 8-bit gray PNG of class ids"
    with _open_picture(data, where) as picture:
        rawmode, mode = _find_rawmode(picture), picture.mode
        if picture.format == "JPEG" or picture.info.get("compression") == "jpeg":
            raise _refusal(where, "is JPEG-compressed, which alters class ids", fix)
        if mode == "F":
            raise _refusal(where, "holds fractions in place of class ids", fix)
        if rawmode[:1] in ("L", "1") and "I" in rawmode:
            raise _refusal(where, "is stored white-is-zero, which turns class ids around", fix)
        if _has_wide_channels(picture):
            raise _refusal(where, "has 16 bits in several channels", fix)
        values = np.array(_load_as_stored(picture))
    if values.ndim == 3:
        channels = values[..., :1] if mode in ("LA", "PA") else values[..., :3]
        if mode not in ("LA", "PA", "RGB", "RGBA") or (channels != channels[..., :1]).any():
            raise _refusal(where, "holds colors in place of class ids", fix)
        values = channels[..., 0]
    if values.min() < 0 or values.max() > 255:
        what = f"holds values from {values.min()} to {values.max()}, but class ids are in 0..255"
        raise _refusal(where, what, fix)
    ids: IdMask = values.astype(np.uint8)
    # Pillow spreads gray values of 2 and 4 bits over 0..255.
    return ids // (85 if rawmode.startswith("L;2") else 17 if rawmode.startswith("L;4") else 1)


def read_palette(data: bytes) -> Palette:
    """Returns the palette of a picture that has been decoded, by its header; empty where it has none."""
    reader = _find_reader(data)
    assert reader is not None
    with reader(BytesIO(data)) as picture:
        flat = picture.getpalette("RGB") if picture.mode in ("P", "PA") else None
    flat = flat or []
    return dict(enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True)))


@contextmanager
def _open_picture(data: bytes, where: str) -> Iterator[ImageFile]:
    """Opens a picture, checks its size and page count, and tells whatever a decoder raises as a finding."""
    if not data:
        raise _refusal(where, "is empty (0 bytes)", "copy the file again")
    # Not Image.open: its pixel limit is a global that whole slides exceed; here MAX_PIXELS is the limit.
    if (reader := _find_reader(data)) is None:
        raise _refusal(where, "is no PNG, JPEG or TIFF, whatever its name says", "convert it")
    try:
        with warnings.catch_warnings(), reader(BytesIO(data)) as picture:
            warnings.simplefilter("ignore")  # of what Pillow repairs, and of its own limit on pixels
            width, height = picture.size
            if not 0 < width * height <= MAX_PIXELS:
                rule = f"cut it into regions of at most {MAX_PIXELS // 10**6} megapixels"
                raise _refusal(where, f"has {width} x {height} pixels", rule)
            if (pages := getattr(picture, "n_frames", 1)) > 1:
                what = f"holds {pages} pictures (animated, or of several pages)"
                raise _refusal(where, what, "save one picture a file")
            yield picture
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise _refusal(where, f"cannot be decoded ({error})", "copy or export the file again") from error


def _find_reader(data: bytes) -> Callable[[BinaryIO], ImageFile] | None:
    return next((reader for magic, reader in _READERS.items() if data.startswith(magic)), None)


def _find_rawmode(picture: ImageFile) -> str:
    """Returns how the file stores a pixel (``RGB;16B``, ``L;4``), which Pillow's mode no longer tells."""
    args = picture.tile[0][3] if picture.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args or "")


def _has_wide_channels(picture: ImageFile) -> bool:
    """Whether there are several channels of more than 8 bits each."""
    if ";16" in _find_rawmode(picture) and picture.mode[0] != "I":
        return True
    # Where each channel of a TIFF has a plane of its own, no rawmode tells.
    bits = picture.tag_v2.get(_BITS_TAG, ()) if isinstance(picture, TiffImageFile) else ()
    return len(bits) > 1 and max(bits) > 8


def _load_as_stored(picture: ImageFile) -> Image.Image:
    """Decodes, and turns back what Pillow has turned: it obeys orientation tags in TIFF, and there alone."""
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1) if picture.format == "TIFF" else 1
    picture.load()
    return picture.transpose(_UNTURN[orientation]) if orientation in _UNTURN else picture


def _refusal(where: str | Path, what: str, fix: str) -> DataError:
    return DataError([Finding(str(where), what, fix)])
