"""Reads one image or mask file: PNG, JPEG or TIFF, with the pixels as they are stored."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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

from trainables.errors import DataError
from trainables.tiles.um_per_px import Scale, convert_resolution

RgbImage = UInt8[np.ndarray, "h w 3"]
IdMask = UInt8[np.ndarray, "mask_h mask_w"]  # not h w: it may differ from its image until that is checked
Palette = Mapping[int, tuple[int, int, int]]  # index -> RGB

# 3.3 mm a side at 0.25 micrometres; a file that claims more could fill the memory. Pillow refuses TIFFs of 179 million.
MAX_PIXELS = 178_000_000
MAX_FILE_BYTES = 5 * MAX_PIXELS  # of an uncompressed picture with an alpha channel, and its metadata

_READERS: Mapping[bytes, Callable[[BinaryIO], ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
_BITS_TAG, _ORIENTATION_TAG = 0x0102, 0x0112
_RESOLUTION_TAGS, _UNIT_TAG = (0x011A, 0x011B), 0x0128
_RESOLUTION_UNITS_UM = {2: 25_400.0, 3: 10_000.0}  # pixels an inch, pixels a centimetre
UPRIGHT = 1
_UNTURN = {  # the inverse of what each orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_QUARTERS = (5, 6, 7, 8)  # which exchange height and width


TURN_FIX = "save it upright and without the tag, as ImageMagick's `mogrify -auto-orient FILE` does"


def read_image(path: Path, is_alone: bool = False) -> RgbImage:
    """Reads an image file; see ``decode_image``. One without a mask (``is_alone``) must have no orientation tag."""
    data = read_bytes(path)
    image = decode_image(data, str(path))
    if is_alone and (turn := read_orientation(data)) != UPRIGHT:
        what = f"viewers turn it (orientation tag {turn}), and would not turn a mask of the pixels as they are stored"
        raise DataError.at(path, what, TURN_FIX)
    return image


def read_mask(path: Path) -> IdMask:
    """Reads a mask file; see ``decode_mask``."""
    return decode_mask(read_bytes(path), str(path))


def read_size(path: Path) -> tuple[int, int] | None:
    """Returns height and width from a picture's header, without decoding; None if they cannot be read."""
    if not path.is_file():  # opening a pipe waits
        return None
    try:
        with path.open("rb") as stream:
            if (reader := _find_reader(stream.read(8))) is None:
                return None
            stream.seek(0)
            with reader(stream) as picture:
                height, width = picture.height, picture.width
                is_turned = picture.format == "TIFF" and picture.getexif().get(_ORIENTATION_TAG, UPRIGHT) in _QUARTERS
                return (width, height) if is_turned else (height, width)  # Pillow gives a TIFF's size as it is shown
    except Exception:  # decoding reports what is wrong with the file
        return None


def read_bytes(path: Path) -> bytes:
    """Reads a whole file.

    Raises:
        DataError: If it cannot be read, is larger than any region, or is a pipe or a device, which may never end.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError.at(path, "is no plain file", "put the picture itself there")
        if path.exists() and (n_bytes := path.stat().st_size) > MAX_FILE_BYTES:
            what = f"has {n_bytes:,} bytes, more than {MAX_FILE_BYTES:,}"
            raise DataError.at(path, what, "cut the slide into regions")
        return path.read_bytes()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise DataError.at(path, what, "check the file and its rights") from error


def decode_image(data: bytes, where: str) -> RgbImage:
    """Decodes a PNG, JPEG or TIFF to RGB, [h, w, 3] in 0..255; ``where`` names the file in findings.

    Transparent pixels are laid over white, the color of a slide without tissue; grayscale, palette and CMYK
    become RGB. Orientation tags, color profiles and gamma are not applied; see ``read_orientation``.

    Raises:
        DataError: If the bytes are no such picture, are cut off, or hold several pictures, more than 8 bits a
            channel or more than ``MAX_PIXELS`` pixels.
    """
    with _open_picture(data, where) as picture:
        if picture.mode[0] in "IF" or _has_wide_channels(picture):
            raise DataError.at(where, "has more than 8 bits a channel", "save it as 8-bit RGB")
        stored = _load_as_stored(picture)
        if stored.mode in ("RGBA", "LA", "PA") or "transparency" in stored.info:
            above = stored.convert("RGBA")
            stored = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
        return np.array(stored if stored.mode == "RGB" else stored.convert("RGB"))  # not one copy too many


def decode_mask(data: bytes, where: str) -> IdMask:
    """Decodes a PNG or TIFF to class ids, [h, w] in 0..255; ``where`` names the file in findings.

    Ids are what the file stores: a palette's index rather than its color, a 2- or 4-bit gray value unscaled.
    Three equal channels count as one, and an alpha channel that hides no id is left out.

    Raises:
        DataError: As ``decode_image``, and for colors, fractions, ids above 255, ids that alpha hides, lossy
            compression and white-is-zero.
    """
    fix = "save it as an 8-bit gray PNG of class ids"
    with _open_picture(data, where) as picture:
        rawmode, mode = _find_rawmode(picture), picture.mode
        if picture.format == "JPEG" or picture.info.get("compression") == "jpeg":
            raise DataError.at(where, "is JPEG-compressed, which alters class ids", fix)
        if mode == "F":
            raise DataError.at(where, "holds fractions in place of class ids", fix)
        if rawmode[:1] in ("L", "1") and "I" in rawmode:
            raise DataError.at(where, "is stored white-is-zero, which turns class ids around", fix)
        if _has_wide_channels(picture):
            raise DataError.at(where, "has 16 bits in several channels", fix)
        values = np.array(_load_as_stored(picture))
    if values.ndim == 3:
        channels = values[..., :1] if mode in ("LA", "PA") else values[..., :3]
        if mode not in ("LA", "PA", "RGB", "RGBA") or (channels != channels[..., :1]).any():
            raise DataError.at(where, "holds colors in place of class ids", fix)
        alpha, values = values[..., -1], channels[..., 0]
        hides = (values != np.where(alpha, values, 0)).any() or np.ptp(alpha) > np.ptp(values) == 0
        if mode != "RGB" and hides:
            raise DataError.at(where, "its alpha channel shows other shapes than its ids, which are read", fix)
    if values.min() < 0 or values.max() > 255:
        what = f"holds values from {values.min()} to {values.max()}, but class ids are in 0..255"
        raise DataError.at(where, what, fix)
    ids: IdMask = values.astype(np.uint8)
    # Pillow spreads gray values of 2 and 4 bits over 0..255.
    return ids // (85 if rawmode.startswith("L;2") else 17 if rawmode.startswith("L;4") else 1)


def read_palette(data: bytes) -> Palette:
    """Returns the palette in the header of a picture that has been decoded; empty without one."""
    with _open_header(data) as picture:
        flat = picture.getpalette("RGB") if picture.mode in ("P", "PA") else None
    flat = flat or []
    return dict(enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True)))


def read_orientation(data: bytes) -> int:
    """Returns how viewers turn a picture that has been decoded: EXIF's values, 1 (``UPRIGHT``) to 8."""
    if data[1:4] == b"PNG" and not any(sign in data for sign in (b"eXIf", b"exif", b"rientation")):
        return UPRIGHT  # Pillow decodes a PNG anew to find no tag behind its pixels
    turn = None
    with warnings.catch_warnings(), suppress(Exception), _open_header(data) as picture:
        warnings.simplefilter("ignore")  # a tag that is broken turns nothing
        turn = picture.getexif().get(_ORIENTATION_TAG)
    return turn if isinstance(turn, int) and turn in _UNTURN else UPRIGHT


def read_scale(data: bytes) -> Scale:
    """Returns micrometres a pixel by the resolution tags of a PNG or TIFF that has been decoded, where they have it."""
    with warnings.catch_warnings(), suppress(Exception), _open_header(data) as picture:
        warnings.simplefilter("ignore")
        if picture.format == "PNG" and "dpi" in picture.info:
            x, y = (round(dpi / 0.0254) for dpi in picture.info["dpi"])  # the file has whole pixels a metre
            return convert_resolution(x, 1e6) if _is_square(x, y) else Scale()
        if isinstance(picture, TiffImageFile):
            x, y = (float(picture.tag_v2.get(tag, 0)) for tag in _RESOLUTION_TAGS)
            unit_um = _RESOLUTION_UNITS_UM.get(picture.tag_v2.get(_UNIT_TAG, 0), 0.0)
            return convert_resolution(x, unit_um) if _is_square(x, y) else Scale()
    return Scale()


def _is_square(x: float, y: float) -> bool:
    """Says whether pixels are as wide as high, but for the rounding of what wrote the tags."""
    return abs(x - y) <= 0.001 * max(x, y)


def _open_header(data: bytes) -> ImageFile:
    reader = _find_reader(data)
    assert reader is not None
    return reader(BytesIO(data))


def digest_pixels(image: RgbImage) -> str:
    """Returns the SHA-256 of an image's pixels and shape, equal for its turned and mirrored copies.

    Of the eight flips and rotations, the one is hashed that is no
    taller than wide and whose bytes come first in lexicographic order. Unlike the smallest of eight hashes, it is
    found row by row, mostly in the first: 7 ms instead of 43 for 1024 x 1024 pixels of noise.
    """
    transposed = image.transpose(1, 0, 2)
    copies = [turned[:, ::step] for one in (image, transposed) for turned in (one, one[::-1]) for step in (1, -1)]
    copies = [copy for copy in copies if copy.shape[0] <= copy.shape[1]]
    for y in range(copies[0].shape[0]):
        rows = [copy[y].tobytes() for copy in copies]
        copies = [copy for copy, row in zip(copies, rows, strict=True) if row == min(rows)]
        if len(copies) == 1:
            break
    digest = hashlib.sha256(repr(copies[0].shape).encode())  # what is left of several is equal: symmetric
    digest.update(copies[0].tobytes())
    return digest.hexdigest()


@contextmanager
def _open_picture(data: bytes, where: str) -> Iterator[ImageFile]:
    """Opens a picture and checks its size and page count; whatever a decoder raises becomes a DataError."""
    if not data:
        raise DataError.at(where, "is empty (0 bytes)", "copy the file again")
    # Not Image.open: its pixel limit is a global that whole slides exceed; here MAX_PIXELS is the limit.
    if (reader := _find_reader(data)) is None:
        raise DataError.at(where, "is no PNG, JPEG or TIFF, whatever its name says", "convert it")
    try:
        with warnings.catch_warnings(), reader(BytesIO(data)) as picture:
            warnings.simplefilter("ignore")  # about what Pillow repairs, and about its own limit on pixels
            width, height = picture.size
            if not 0 < width * height <= MAX_PIXELS:
                rule = f"cut it into regions of at most {MAX_PIXELS // 10**6} megapixels"
                raise DataError.at(where, f"has {width} x {height} pixels", rule)
            if (pages := getattr(picture, "n_frames", 1)) > 1:
                raise DataError.at(where, f"holds {pages} pictures (animated, or pages)", "save one picture a file")
            yield picture
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise DataError.at(where, f"cannot be decoded ({error})", "copy or export the file again") from error


def _find_reader(data: bytes) -> Callable[[BinaryIO], ImageFile] | None:
    return next((reader for magic, reader in _READERS.items() if data.startswith(magic)), None)


def _find_rawmode(picture: ImageFile) -> str:
    """Returns how the file stores a pixel (``RGB;16B``, ``L;4``), which Pillow's mode does not show."""
    args = picture.tile[0][3] if picture.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args or "")


def _has_wide_channels(picture: ImageFile) -> bool:
    """Says whether there are several channels of more than 8 bits each."""
    if ";16" in _find_rawmode(picture) and picture.mode[0] != "I":
        return True
    # The rawmode does not show it where each channel of a TIFF has a plane of its own.
    bits = picture.tag_v2.get(_BITS_TAG, ()) if isinstance(picture, TiffImageFile) else ()
    return len(bits) > 1 and max(bits) > 8


def _load_as_stored(picture: ImageFile) -> Image.Image:
    """Decodes, and undoes the orientation tag, which Pillow applies to TIFF alone."""
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1) if picture.format == "TIFF" else 1
    picture.load()
    return picture.transpose(_UNTURN[orientation]) if orientation in _UNTURN else picture
