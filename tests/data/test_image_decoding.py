"""Image files and masks of all kinds: decoded, or rejected with an error that names the file."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from anoframe.data.image_decoding import is_image_file, read_image, upright_size
from anoframe.data.masks import read_mask
from anoframe.errors import AnoframeError

SIZE = (24, 16)


@pytest.fixture
def photograph():
    ramp = np.linspace(0, 255, 24 * 16 * 3).astype(np.uint8).reshape(16, 24, 3)
    return Image.fromarray(ramp)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "JPEG", "jfif", "jpe", "ppm", "PNM"])
def test_common_formats_are_read(tmp_path, photograph, suffix):
    path = tmp_path / f"a.{suffix}"
    photograph.save(path)
    image = read_image(path)
    assert is_image_file(path)
    assert (image.mode, image.size) == ("RGB", SIZE)
    assert np.abs(np.asarray(image, int) - np.asarray(photograph, int)).mean() < 6


@pytest.mark.parametrize(("suffix", "mode"), [("pgm", "L"), ("pbm", "1"), ("pnm", "L")])
def test_grey_portable_formats_are_read(tmp_path, photograph, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    photograph.convert(mode).save(path, "PPM")
    assert is_image_file(path)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(photograph.convert(mode).convert("RGB")))


@pytest.mark.parametrize(
    "header", [b"P6 2 2 65535\n", b"P5 2 2 65535\n", b"P3 2 2 1023\n", b"P2 2 2 300\n", b"Pf 2 2\n-1.0\n"]
)
def test_portable_formats_with_more_than_8_bits_are_errors(tmp_path, header):
    (tmp_path / "a.ppm").write_bytes(header + b"1 2 3 " * 8)
    with pytest.raises(AnoframeError, match=r"a\.ppm: .*convert it to 8 bits"):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK"])
def test_other_modes_are_converted_to_rgb(tmp_path, photograph, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    photograph.convert(mode).save(path)
    expected = photograph.convert(mode).convert("RGB")
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(expected))


def test_alpha_is_dropped_and_not_blended(tmp_path, photograph):
    transparent = photograph.copy()
    transparent.putalpha(0)
    transparent.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(photograph))


@pytest.mark.parametrize("name", ["späne 01.png", "零件 (2).png", "a b.PNG"])
def test_names_with_spaces_and_other_scripts_are_read(tmp_path, photograph, name):
    photograph.save(tmp_path / name)
    assert read_image(tmp_path / name).size == SIZE


def test_the_format_is_recognised_by_content(tmp_path, photograph):
    photograph.save(tmp_path / "a.png", format="BMP")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(photograph))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_to_image_and_mask(tmp_path, suffix):
    lossless = {"lossless": True} if suffix == "webp" else {}
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise for display
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    upright = np.rot90(stored, -1)
    assert np.abs(np.asarray(read_image(tmp_path / f"a.{suffix}"))[..., 0].astype(int) - upright).max() < 8
    if suffix != "jpg":
        assert np.array_equal(read_mask(tmp_path / f"a.{suffix}"), upright > 0)


DEEP = {
    "grey16.png": np.zeros((4, 4), np.uint16),
    "grey16.tif": np.zeros((4, 4), np.uint16),
    "grey32.tif": np.zeros((4, 4), np.int32),
    "float.tif": np.zeros((4, 4), np.float32),
}


@pytest.mark.parametrize("name", DEEP)
def test_images_with_more_than_8_bits_are_rejected(tmp_path, name):
    Image.fromarray(DEEP[name]).save(tmp_path / name)
    with pytest.raises(AnoframeError, match=f"{name}.*(16-bit|32-bit|floating).*8 bits"):
        read_image(tmp_path / name)


def test_16_bit_colour_is_rejected_although_pillow_would_read_it(tmp_path, photograph):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\0" + b"\x01\x02" * 3 * 4) * 4)
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(AnoframeError, match=r"deep\.png: 16-bit"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_multiple_frames_are_rejected(tmp_path, photograph, suffix):
    path = tmp_path / f"many.{suffix}"
    photograph.save(path, save_all=True, append_images=[photograph.rotate(90), photograph.rotate(180)])
    for read in (read_image, read_mask):
        with pytest.raises(AnoframeError, match=f"many.{suffix}: 3 frames"):
            read(path)


def test_the_first_image_of_an_mpo_file_is_read(tmp_path, photograph):
    path = tmp_path / "phone.jpg"
    photograph.save(path, format="MPO", save_all=True, append_images=[photograph.rotate(180)], quality=95)
    assert np.abs(np.asarray(read_image(path), int) - np.asarray(photograph, int)).mean() < 6


def test_missing_empty_and_other_files_are_errors(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    expected = {
        "gone.png": "no such file",
        "link.png": "no such file",
        "empty.png": "zero bytes",
        "folder.png": "a folder",
        "page.jpg": "not an image",
    }
    for name, words in expected.items():
        for read in (read_image, read_mask):
            with pytest.raises(AnoframeError, match=f"{name}: {words}"):
                read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_files_are_errors(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(AnoframeError, match=rf"cut\.{suffix}: .*(truncated|not an image)"):
        read_image(path)


def test_a_file_without_permission_is_an_error(tmp_path, photograph):
    photograph.save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AnoframeError, match=r"a\.png: no permission to read"):
        read_image(tmp_path / "a.png")


def test_a_decompression_bomb_is_an_error(tmp_path, photograph, monkeypatch):
    photograph.save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(AnoframeError, match=r"bomb\.png: too many pixels"):
        read_image(tmp_path / "bomb.png")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"]), st.integers(0, 10**6), st.binary(max_size=8))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_decoded_or_an_error_that_names_it(tmp_path, photograph, format_, offset, junk):
    path = tmp_path / "damaged"
    photograph.save(path, format=format_)
    content = bytearray(path.read_bytes())
    offset %= len(content)
    content[offset : offset + len(junk)] = junk
    path.write_bytes(content if len(junk) % 2 else content[:offset])
    try:
        outcome = read_image(path).mode
    except AnoframeError as error:
        outcome = str(error)
    assert outcome == "RGB" or str(path) in outcome


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_any_mask_value_except_zero_is_defect(tmp_path, dtype):
    values = np.zeros((5, 7), dtype)
    values[1, 2], values[3, 4] = 1, 3
    path = tmp_path / ("m.png" if dtype in (np.uint8, np.uint16) else "m.tif")
    Image.fromarray(values).save(path)
    assert np.array_equal(read_mask(path), values > 0)


def test_a_palette_mask_is_judged_by_colour(tmp_path):
    entries = np.array([[0, 1], [2, 0]], np.uint8)
    mask = Image.fromarray(entries, mode="L").convert("P")
    mask.putpalette([255, 255, 255, 0, 0, 0, 0, 0, 1])  # entry 0 is white, entry 1 is black
    mask.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), entries != 1)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_masks_of_other_modes_are_read(tmp_path, mode):
    values = np.zeros((6, 6), np.uint8)
    values[2:4, 2:5] = 255
    Image.fromarray(values).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), values > 0)


def test_hidden_and_other_files_are_not_images(tmp_path):
    assert not is_image_file(tmp_path / "._000.png")
    assert not is_image_file(tmp_path / "license.txt")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_upright_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert upright_size(image) == ImageOps.exif_transpose(image).size
