import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from trainables.data import images
from trainables.data.images import digest_pixels, read_image, read_mask, read_orientation, read_scale, read_size
from trainables.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
IDS = np.random.default_rng(1).integers(0, 4, (6, 9), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_image_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(path := tmp_path / f"a.{suffix}")
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.array(image.convert("RGB")))


def test_cmyk_becomes_rgb_and_alpha_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("CMYK", (9, 6), (0, 255, 255, 0)).save(path := tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 3
    Image.new("RGBA", (9, 6), (200, 0, 100, 0)).save(path := tmp_path / "a.png")
    assert (read_image(path) == 255).all()
    Image.new("RGB", (9, 6), (1, 2, 3)).save(path, transparency=(1, 2, 3))
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_orientation_is_ignored(tmp_path: Path, suffix: str, orientation: int) -> None:
    ramp = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[None] + np.arange(8, dtype=np.uint8)[:, None], 3)
    ramp = ramp.reshape(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(path := tmp_path / f"a.{suffix}", exif=exif, quality=100)
    assert np.abs(read_image(path).astype(int) - ramp).max() <= 4
    assert read_orientation(path.read_bytes()) == orientation
    assert read_size(path) == (8, 12)
    if orientation > 1:
        with pytest.raises(DataError, match=f"orientation tag {orientation}"):
            read_image(path, is_alone=True)


@pytest.mark.parametrize("chunk", [{"exif": b"broken"}, {"pnginfo": "<x tiff:Orientation='no'/>"}, {}])
def test_orientation_without_a_sound_tag_is_upright(tmp_path: Path, chunk: dict[str, Any]) -> None:
    if text := chunk.pop("pnginfo", ""):
        chunk["pnginfo"] = PngImagePlugin.PngInfo()
        chunk["pnginfo"].add_itxt("XML:com.adobe.xmp", text)
    Image.fromarray(RGB).save(path := tmp_path / "a.png", **chunk)
    assert read_orientation(path.read_bytes()) == 1
    assert read_image(path, is_alone=True).shape == RGB.shape


def test_orientation_in_xmp_behind_the_pixels_is_found(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>', zip=False)
    Image.fromarray(RGB).save(path := tmp_path / "a.png", pnginfo=info)
    assert read_orientation(path.read_bytes()) == 6


@pytest.mark.parametrize(
    ("name", "settings", "um_per_px"),
    [
        ("a.png", {"dpi": (50_800, 50_800)}, 0.5),
        ("a.png", {"dpi": (50_800, 50_800), "icc_profile": bytes(8192)}, 0.5),
        ("a.png", {"dpi": (50_800, 50_803)}, 0.5),
        ("a.png", {"dpi": (50_800, 25_400)}, 0),
        ("a.png", {}, 0),
        ("a.tif", {"dpi": (50_800.0, 50_801.0)}, 0.5),
    ],
)
def test_resolution_tags_give_the_scale(tmp_path: Path, name: str, settings: dict[str, Any], um_per_px: float) -> None:
    Image.fromarray(RGB).save(path := tmp_path / name, **settings)
    assert read_scale(path.read_bytes()).um_per_px == pytest.approx(um_per_px, rel=1e-3)


@pytest.mark.parametrize("pixels", [RGB.astype(np.uint16) * 257, RGB[..., 0].astype(np.uint16)])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_16_bit_image_is_refused(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, pixels)
    else:
        cv2.imwrite(str(path), pixels)
    with pytest.raises(DataError, match="8 bits|cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("planes", ["separate", "contig"])
def test_16_bits_in_several_channels_are_refused_however_they_lie(
    tmp_path: Path, read: Callable[[Path], np.ndarray], planes: str
) -> None:
    pixels = np.arange(24, dtype=np.uint16).reshape(1, 4, 6).repeat(3, axis=0) * 300
    stored = pixels if planes == "separate" else np.moveaxis(pixels, 0, 2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planes)
    with pytest.raises(DataError, match="more than 8 bits a channel|16 bits in several channels"):
        read(tmp_path / "a.tif")


def test_8_bits_in_planes_are_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_several_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    pages[0].save(path := tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="2 pictures"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_cut_off_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path := tmp_path / f"a.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=f"a.{suffix}"):
        read_image(path)


def test_other_formats_and_missing_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(path := tmp_path / "a.png")
    with pytest.raises(DataError, match="no PNG, JPEG or TIFF"):
        read_image(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "none.png")


def test_the_header_gives_the_size(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(RGB).save(tmp_path / name)
        assert read_size(tmp_path / name) == (6, 9)
    (tmp_path / "a.png").write_text("no picture")
    assert read_size(tmp_path / "a.png") is read_size(tmp_path / "none.png") is None


def test_the_pixel_limit_is_this_project_s_and_not_pillow_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(path := tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(images, "MAX_PIXELS", 54)
    assert read_image(path).shape == (6, 9, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 53)
    with pytest.raises(DataError, match="9 x 6 pixels"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("form", ["L", "P", "I;16", "RGB", "RGBA", "LA"])
def test_mask_forms_keep_ids(tmp_path: Path, form: str, suffix: str) -> None:
    if form == "P":
        mask = Image.fromarray(IDS).convert("L")
        mask.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250, 9, 9, 9] + [0] * 756)
    elif form == "I;16":
        mask = Image.fromarray(IDS.astype(np.uint16))
    else:
        mask = Image.fromarray(IDS).convert(form)
    mask.save(path := tmp_path / f"a.{suffix}")
    ids = read_mask(path)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, IDS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_png_of_few_bits_is_not_scaled(tmp_path: Path, bits: int) -> None:
    ids = np.arange(8, dtype=np.uint8)[None] % 2**bits
    path = tmp_path / "a.png"
    packed = np.packbits(np.unpackbits(ids[0][:, None], axis=1)[:, 8 - bits :].ravel()).tobytes()
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0))
        PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(b"\0" + packed))
        PngImagePlugin.putchunk(file, b"IEND", b"")
    np.testing.assert_array_equal(read_mask(path), ids)


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (RGB, "colors"),
        (RGB[..., 0].astype(np.uint16) * 2 + 1, "0..255"),
        (np.int32(-1) * np.ones((6, 9), np.int32), "-1 to -1"),
        (np.full((6, 9), 0.5, np.float32), "fractions"),
    ],
)
def test_masks_that_hold_no_ids_are_refused(tmp_path: Path, pixels: np.ndarray, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError, match=text):
        read_mask(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("ids", "alpha", "is_sound"),
    [
        ([0, 1, 2, 2], [0, 255, 255, 9], True),
        ([0, 1, 2, 2], [128, 128, 128, 128], True),
        ([0, 0, 0, 0], [0, 0, 0, 0], True),
        ([0, 1, 2, 2], [0, 0, 255, 255], False),
        ([0, 0, 0, 0], [0, 255, 255, 0], False),
        ([1, 1, 1, 1], [0, 255, 255, 0], False),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_alpha_that_shows_other_shapes_is_refused(
    tmp_path: Path, ids: list[int], alpha: list[int], is_sound: bool, n_channels: int
) -> None:
    pixels = np.array([[ids] * n_channels + [alpha]], np.uint8).transpose(0, 2, 1)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    if is_sound:
        assert read_mask(path).tolist() == [ids]
    else:
        with pytest.raises(DataError, match="alpha channel"):
            read_mask(path)


def test_white_is_zero_and_jpeg_masks_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IDS > 1, photometric="miniswhite")  # a bit a pixel
    with pytest.raises(DataError, match="white-is-zero"):
        read_mask(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", IDS, photometric="miniswhite")
    with pytest.raises(DataError, match="white-is-zero"):
        read_mask(tmp_path / "a.tif")
    Image.fromarray(IDS).save(tmp_path / "b.tif", compression="jpeg")
    with pytest.raises(DataError, match="alters class ids"):
        read_mask(tmp_path / "b.tif")


@pytest.mark.parametrize("low", [0, 255])  # 255: all rows tie until the last pixels
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (5, 5), (4, 9), (9, 4)])
def test_turned_and_mirrored_pixels_have_one_digest(h: int, w: int, low: int) -> None:
    image = np.random.default_rng(h).integers(low, 256, (h, w, 3), np.uint8)
    image[-1, -1] = 7
    turned = [np.rot90(one, turns) for one in (image, image[:, ::-1]) for turns in range(4)]
    assert len({digest_pixels(one) for one in turned}) == 1


def test_other_pixels_have_another_digest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    others = [image, changed, image[..., ::-1], image.reshape(4, 12, 3), image[:-1], 255 - image]
    assert len({digest_pixels(one) for one in others}) == len(others)


def test_the_digest_does_not_depend_on_the_file(tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    image.save(tmp_path / "a.png", compress_level=0)
    image.save(tmp_path / "a.tif")
    image.save(tmp_path / "a.tiff", compression="tiff_lzw")
    image.convert("RGBA").save(tmp_path / "b.png")
    assert {digest_pixels(read_image(path)) for path in tmp_path.iterdir()} == {digest_pixels(RGB)}
