"""Pictures of all formats come in as they are shown; what is no picture says what is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tracemalloc
import warnings
import zlib
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaccel
from vaccel import Config
from vaccel.error import InvalidArgument
from vaccel.inference import pictures, room
from vaccel.ops.objects import Picture

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'vaccel[onnx]'")

# A gradient that every orientation changes; large enough for JPEG to keep.
Y, X = np.mgrid[0:24, 0:40]
RGB = np.stack([Y * 10, X * 6, np.full_like(X, 90)], -1).astype(np.uint8)
LOSSLESS = ["PNG", "BMP", "TIFF", "PPM"]


def encoded(image: Any, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def decode(content: Any) -> Any:
    with pictures.decoded(content) as image:
        return image


def decoded(content: Any) -> np.ndarray[Any, Any]:
    image = decode(content)
    assert image.mode == "RGB"
    return np.asarray(image)


# -- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_come_in_bit_for_bit(format: str):
    assert np.array_equal(decoded(encoded(Image.fromarray(RGB), format)), RGB)


def test_lossless_webp():
    content = encoded(Image.fromarray(RGB), "WEBP", lossless=True)
    assert np.array_equal(decoded(content), RGB)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_come_in_nearly(format: str):
    options = {"quality": 95} if format != "GIF" else {}
    found = decoded(encoded(Image.fromarray(RGB), format, **options))
    assert np.abs(found.astype(int) - RGB).mean() < 6


def test_binary_pnm():
    assert np.array_equal(decoded(b"P4 2 1\n\x80"), [[[0] * 3, [255] * 3]])
    assert np.array_equal(decoded(b"P5 2 1 255\n\0\xc8"), [[[0] * 3, [200] * 3]])
    assert np.array_equal(decoded(b"P5 2 1 65535\n\0\0\xc8\0"), [[[0] * 3, [200] * 3]])


@pytest.mark.parametrize(
    "content",
    [
        *(b"P1 2 1\n1 0\n", b"P2 2 1 255 0 200", b"P3 1 1 255 0 0 0"),
        *(b"P5 3 1 15\n\0\x07\x0f", b"P5 2 1 1023\n\0\0\3\xff"),
        *(b"P6 1 1 254\n\0\0\0", b"P6 1 1 65535\n\0\0\0\0\0\0"),
    ],
)
def test_pnm_that_takes_a_step_of_python_for_each_pixel_is_refused(content: bytes):
    with pytest.raises(InvalidArgument, match=r"expected binary PNM: P4, P5 with .*255 or 65535"):
        decode(content)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(format: str):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert decoded(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_all_kinds_of_bytes(wrap: Any):
    assert np.array_equal(decoded(wrap(encoded(Image.fromarray(RGB), "PNG"))), RGB)


# -- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_other_kinds_of_pixels_become_rgb(mode: str, format: str):
    if (mode, format) == ("CMYK", "PNG"):
        format = "JPEG"
    image = Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode)
    assert (decoded(encoded(image, format)) >= 254).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_loses_its_lower_byte(format: str):
    grey = (np.arange(24 * 40, dtype=np.uint16) * 68).reshape(24, 40)
    found = decoded(encoded(Image.fromarray(grey), format))
    assert np.array_equal(found, np.repeat((grey >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pixels_without_a_known_range_are_refused(dtype: str):
    content = encoded(Image.fromarray(np.full((4, 4), 70_000, dtype)), "TIFF")
    with pytest.raises(InvalidArgument, match=f"expected 8 or 16 bits a channel, found {dtype}"):
        decode(content)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_stand_on_white(format: str):
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (0, 0, 0, alpha))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    assert decoded(encoded(image, format, **options))[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_stands_on_white(mode: str):
    image = Image.new(mode, (2, 1))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((1, 0), {"P": 1, "L": 200, "RGB": (200, 0, 0)}[mode])
    content = encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    found = decoded(content)[0]
    assert found[0].tolist() == [255, 255, 255]
    assert found[1, 0] == 200


# -- orientation -------------------------------------------------------------------------------

ORIENTATIONS = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: RGB.transpose(1, 0, 2)[:, ::-1],
    7: RGB[::-1, ::-1].transpose(1, 0, 2),
    8: RGB.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(orientation: int, format: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if format == "JPEG" else {"lossless": True}
    found = decoded(encoded(Image.fromarray(RGB), format, exif=exif, **options))
    expected = ORIENTATIONS[orientation]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (16 if format == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0" * 40])
def test_broken_exif_does_not_hide_the_picture(exif: bytes):
    content = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    assert decoded(content).shape == RGB.shape


def test_what_pillow_warns_of_is_ignored_and_other_warnings_are_heard():
    content = bytearray(encoded(Image.fromarray(RGB), "TIFF"))
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    struct.pack_into("<H", content, place, count + 4000)  # more entries than there are
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with contextlib.suppress(InvalidArgument):
            decode(bytes(content))
        warnings.warn("another one", stacklevel=1)
    assert [str(one.message) for one in found] == ["another one"]


# -- arrays and PIL images ---------------------------------------------------------------------


def through_kind(value: Any) -> np.ndarray[Any, Any]:
    return decoded(Picture().check(value, {}))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("forms", [slice(None), slice(None, None, -2)], ids=["whole", "strided"])
def test_arrays_come_in_without_loss(dtype: str, channels: tuple[int, ...], forms: slice):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, *channels), np.uint8)
    if channels == (4,):
        pixels[..., 3] = 255
    given = pixels.astype(dtype) * (256 if np.dtype(dtype).itemsize == 2 else 1)
    shown = pixels[..., :3] if channels else pixels[..., None]
    expected = np.broadcast_to(shown, (6, 5, 3))[forms]
    assert np.array_equal(through_kind(given[forms]), expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "I;16"]
)
def test_pil_images_come_in_as_they_look(mode: str):
    image = Image.new("RGB", (6, 4), (255, 255, 255))
    image = Image.new(mode, (6, 4), 65535) if mode == "I;16" else image.convert(mode)
    assert (through_kind(image) >= 254).all()


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("loaded", [False, True])
def test_an_opened_picture_is_turned_as_its_file_is(orientation: int, format: str, loaded: bool):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(RGB), format, exif=exif)
    image = Image.open(io.BytesIO(content))
    if loaded:
        image.load()
    assert np.array_equal(through_kind(image), decoded(content))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I;16B", "I"])
def test_an_opened_picture_has_the_pixels_of_its_file(mode: str):
    if mode.startswith("I"):
        grey = (X * 1600 + Y).astype(">u2" if mode.endswith("B") else "<u2")
        image = Image.fromarray(grey.astype(np.int32) if mode == "I" else grey)
        assert image.mode == mode
    else:
        image = Image.fromarray(RGB).convert(mode)
    content = encoded(image, "TIFF")
    assert np.array_equal(through_kind(Image.open(io.BytesIO(content))), decoded(content))
    assert np.array_equal(through_kind(image), decoded(content))


def test_pixels_of_more_than_sixteen_bits_are_refused():
    for level in (-1, 65536):
        with pytest.raises(InvalidArgument, match=f"8 or 16 bits a channel, found int32 .*{level}"):
            Picture().check(Image.new("I", (2, 2), level), {})


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert through_kind(image)[0].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_flat_array_of_bytes_is_an_encoded_picture():
    content = np.frombuffer(encoded(Image.fromarray(RGB), "PNG"), np.uint8)
    assert np.array_equal(through_kind(content), RGB)
    assert np.array_equal(through_kind(np.repeat(content, 2)[::2]), RGB)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.jpg", "expected bytes or an array, found str; read the file and pass its bytes"),
        (None, "expected bytes or an array, found NoneType"),
        (np.zeros((4, 4, 3)), r"uint8 or uint16 pixels, found float64 .*\(4, 4, 3\); scale it"),
        (np.zeros((4, 4), bool), "expected an encoded picture, or uint8 or uint16 pixels"),
        (np.zeros(16, np.uint16), r"expected pixels .*found uint16 .*\(16,\)"),
        (np.zeros((4, 4, 2), np.uint8), r"1, 3 or 4\], found uint8 array of shape \(4, 4, 2\)$"),
        (np.zeros((3, 4, 5), np.uint8), "; channels come last"),
        (np.zeros((0, 4, 3), np.uint8), "expected pixels"),
        (np.zeros((1, 4, 4, 3), np.uint8), "expected pixels"),
        (np.uint8(1), "expected pixels"),
    ],
)
def test_what_is_no_picture_is_refused(value: Any, message: str):
    with pytest.raises(InvalidArgument, match=message):
        Picture().check(value, {})


# -- hostile files -----------------------------------------------------------------------------


def png(width: int, height: int, data: bytes, depth: int = 8, kind: int = 2) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.fromarray(RGB), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">2H", height, width)
    return bytes(content)


BOMBS = {
    "PNG": png(100_000, 100_000, zlib.compress(bytes(2**20))),
    "JPEG": jpeg_of_size(65_500, 65_500),
    "BMP": b"BM" + struct.pack("<3I3i2H6I", 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
    "GIF": b"GIF89a"
    + struct.pack("<2H3x", 65_535, 65_535)
    + b","
    + struct.pack("<4H", 0, 0, 65_535, 65_535)
    + b"\0\x02\x01\0\0;",
    "PNM": b"P6 60000 60000 255\n",
    "just over": b"P5 8000 6711 255\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_seen_before_it_goes_off(name: str):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match=r"at most 256 MiB, found \d+ x .* MiB; send it"):
            decode(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_the_limit_can_be_chosen(monkeypatch: pytest.MonkeyPatch):
    content = encoded(Image.fromarray(RGB), "PNG")
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "7679")
    with pytest.raises(InvalidArgument, match=r"40 x 24 pixels \(PNG, RGB\).*VACCEL_PICTURE_LIMIT"):
        decode(content)
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "7680")
    decode(content)
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "many")
    with pytest.raises(InvalidArgument, match="VACCEL_PICTURE_LIMIT: expected a number of bytes"):
        decode(content)


def test_a_copy_of_what_was_sent_counts_and_is_not_made_of_what_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
):
    content = encoded(Image.fromarray(RGB), "PNG")
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "7680")
    decode(memoryview(content))  # of bytes: no copy
    with pytest.raises(InvalidArgument, match=r"40 x 24 pixels"):
        decode(bytearray(content))
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "1M")
    long = bytearray(content) + bytes(2**23)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match=r"picture of at most 1 MiB, found 8 MiB; send"):
            decode(memoryview(long))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_wrong_limit_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("VACCEL_PICTURE_LIMIT", "-1")
    with pytest.raises(InvalidArgument, match="VACCEL_PICTURE_LIMIT"):
        vaccel.bootstrap(Config(plugins="onnx"))


def test_pillows_own_limit_is_not_reached():
    assert room.DEFAULT // 4 < Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_picture_cut_short_is_refused(format: str, part: float):
    content = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), format)
    with pytest.raises(InvalidArgument, match=r"^image: expected "):
        decode(content[: int(len(content) * part)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JPEG, PNG, WebP, BMP, TIFF, GIF, PNM, found no bytes"),
        (b"%PDF-1.4 nothing", "found 16 bytes that begin with b'%PDF-1.4 nothing'"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "found 16 bytes"),
        (png(8, 8, b"no zlib"), "expected a whole PNG picture, found one that cannot be decoded: "),
        (png(8, 8, zlib.compress(bytes(10))), "expected a whole PNG picture"),
        (png(0, 8, b""), "expected"),
        (b"P6 0 0 255\n", "expected"),
        (b"P5 4 4 0\n" + bytes(16), "expected a whole PNM picture"),
        (b"\xff\xd8\xff\xe0", "expected a whole JPEG picture"),
        (b"II*\0\x08\0\0\0\xff\xff", "expected a whole TIFF picture"),
    ],
    ids=range(10),
)
def test_what_is_wrong_with_a_file_is_said(content: bytes, message: str):
    with pytest.raises(InvalidArgument, match=message):
        decode(content)


SEEDS = [
    encoded(Image.fromarray(RGB[:12, :12]), format) for format in (*LOSSLESS, "JPEG", "WEBP", "GIF")
] + [encoded(Image.fromarray(RGB[:12, :12]), "TIFF", compression="tiff_lzw")]


def decodes_or_is_refused(content: bytes) -> None:
    try:
        with mock.patch.dict(os.environ, VACCEL_PICTURE_LIMIT="4M"):
            picture = decode(content)
    except InvalidArgument as exc:
        if not exc.message.startswith("image: expected "):
            raise
    else:
        assert picture.width * picture.height <= 10**6


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_files_decode_or_are_refused(seed: bytes, data: st.DataObject):
    content = bytearray(seed)
    for place in data.draw(st.lists(st.integers(0, len(seed) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    decodes_or_is_refused(bytes(content))


@given(st.sampled_from([seed[:8] for seed in SEEDS]), st.binary(max_size=200))
def test_garbage_behind_a_signature_decodes_or_is_refused(start: bytes, rest: bytes):
    decodes_or_is_refused(start + rest)
