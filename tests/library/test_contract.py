"""Images in, masks out, and the score: what the challenge and this server agreed on."""

import base64
import io
import random
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.pngs import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    SAMPLES,
    SIGNATURE,
    chunk,
    header,
    png,
    rows,
)
from tumour_segmenter import contract
from tumour_segmenter.contract import (
    ContractError,
    check_mask,
    decode,
    decode_image,
    decode_png,
    dice,
    encode,
    encode_png,
    read_image,
)
from tumour_segmenter.phantom import phantom

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unpack(mask_png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mask_png)))


def seeded(*shape: int, highest: int = 255, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, highest + 1, shape, np.uint16)


# Every kind of PNG


def test_challenge_image_keeps_its_grey_values():
    pixels, _ = phantom(489, 400)
    rgba = np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "PNG")
    np.testing.assert_array_equal(decode(text(out.getvalue())), pixels)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth_is_scaled_to_eight_bits(depth, interlaced):
    highest = 2**depth - 1
    samples = seeded(9, 13, highest=highest)
    samples[0, :2] = 0, highest
    expected = samples >> 8 if depth == 16 else samples * (255 // highest)
    pixels = decode_png(png(samples, depth, interlaced=interlaced))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)
    assert pixels[0, 1] == 255


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [RGB, RGBA, GREY_ALPHA])
def test_equal_opaque_channels_are_grey(colour, depth, interlaced):
    grey = seeded(9, 13, highest=2**depth - 1)
    samples = np.dstack([grey] * SAMPLES[colour])
    if colour != RGB:
        samples[..., -1] = 2**depth - 1
    expected = grey >> (depth - 8)
    np.testing.assert_array_equal(decode_png(png(samples, depth, colour, interlaced)), expected)


def test_colours_become_luminance():
    primaries = [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]]
    assert decode_png(png(primaries, colour=RGB)).tolist() == [[76, 150, 29, 226]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_is_looked_up(depth):
    colours = seeded(2**depth, seed=1)
    palette = chunk(b"PLTE", bytes(c for grey in colours.tolist() for c in (grey,) * 3))
    indices = seeded(7, 11, highest=2**depth - 1)
    pixels = decode_png(png(indices, depth, PALETTE, extra=palette))
    np.testing.assert_array_equal(pixels, colours[indices])


@pytest.mark.parametrize("alpha", [b"\xff\x00", b"\xff\x00\x80"])
def test_transparent_palette_entries_lie_over_white(alpha):
    extra = chunk(b"PLTE", bytes([10] * 3 + [20] * 3 + [30] * 3)) + chunk(b"tRNS", alpha)
    pixels = decode_png(png([[0, 1, 2]], colour=PALETTE, extra=extra))
    assert pixels.tolist() == [[10, 255, 30 if len(alpha) == 2 else 142]]


@pytest.mark.parametrize("colour", [GREY_ALPHA, RGBA])
def test_transparent_pixels_lie_over_white(colour):
    alpha = np.arange(256).reshape(16, 16)
    samples = np.dstack([np.full((16, 16), 40)] * (SAMPLES[colour] - 1) + [alpha])
    expected = np.floor((40 * alpha + 255 * (255 - alpha)) / 255 + 0.5)
    pixels = decode_png(png(samples, colour=colour))
    assert np.abs(pixels - expected).max() <= 1
    assert pixels[0, 0] == 255
    assert pixels[-1, -1] == 40


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_white(depth):
    highest = 2**depth - 1
    samples = np.array([[0, highest, 0, highest // 2]])
    pixels = decode_png(png(samples, depth, extra=chunk(b"tRNS", struct.pack(">H", 0))))
    rest = highest // 2 * 255 // highest if depth > 1 else 255
    assert pixels.tolist() == [[255, 255, 255, rest]]


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_is_white(depth):
    samples = np.array([[[9, 9, 9], [9, 9, 8]]]) << (depth - 8)
    transparent = chunk(b"tRNS", struct.pack(">HHH", *samples[0, 0].tolist()))
    pixels = decode_png(png(samples, depth, RGB, extra=transparent))
    assert pixels.tolist() == [[255, 9]]


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"gAMA", struct.pack(">I", 100_000)),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(b"profile")),
        chunk(b"tEXt", b"Comment\0hello"),
        chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"),  # turned
        chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0)),
        chunk(b"zzZz", b"private"),
    ],
    ids=["gamma", "profile", "text", "orientation", "animation", "private"],
)
def test_only_pixel_values_count(extra):
    np.testing.assert_array_equal(decode_png(png(RAMP, extra=extra)), RAMP)


def test_pixels_in_many_chunks_are_one_image():
    packed = zlib.compress(rows(RAMP[..., None], 8))
    pieces = [chunk(b"IDAT", packed[i : i + 7]) for i in range(0, len(packed), 7)]
    data = SIGNATURE + header(16, 16) + b"".join([*pieces, chunk(b"IDAT"), chunk(b"IEND")])
    np.testing.assert_array_equal(decode_png(data), RAMP)


def test_what_follows_the_end_is_not_read():
    np.testing.assert_array_equal(decode_png(png(RAMP) + b"rubbish"), RAMP)


@pytest.mark.slow
@settings(max_examples=800)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([(GREY, 8), (GREY, 16), (GREY_ALPHA, 8), (RGB, 8), (RGBA, 8), (RGBA, 16)]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_image_keeps_its_shape_and_its_mask_comes_back(height, width, kind, interlaced, seed):
    colour, depth = kind
    samples = seeded(height, width, SAMPLES[colour], highest=2**depth - 1, seed=seed)
    pixels = decode_png(png(samples, depth, colour, interlaced))
    assert pixels.shape == (height, width)
    assert pixels.dtype == np.uint8
    mask = np.where(pixels < 128, np.uint8(255), np.uint8(0))
    answer = encode_png(mask)
    check_mask(unpack(answer), pixels.shape)
    np.testing.assert_array_equal(decode_png(answer), mask)


# Doubts


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_fewer_bits_in_a_16_bit_file_are_scaled_and_noted(bits):
    samples = 2**bits - 1 - np.arange(64, dtype=np.uint16).reshape(8, 8)
    pixels, notes = read_image(png(samples, 16))
    np.testing.assert_array_equal(pixels, samples >> (bits - 8))
    assert pixels.max() == 255
    (note,) = notes
    assert f"under {2**bits:,}: they were taken for {bits}-bit values" in note


def test_full_16_bits_and_8_bits_raise_no_doubt():
    ramp = RAMP.astype(np.uint16)
    assert read_image(png(ramp * 257, 16)).notes == []
    assert "inverted" in read_image(png([[4096, 0, 0]], 16)).notes[0]  # dark, but of 16 bits
    assert read_image(png(RAMP)).notes == []
    assert decode_image(text(png(RAMP))).notes == []


def test_16_bit_colours_that_are_almost_black_are_noted():
    note, _ = read_image(png(np.full((2, 2, 3), 4095), 16, RGB)).notes
    assert "under 4,096" in note


@pytest.mark.parametrize(
    ("pixels", "doubt"),
    [
        (np.zeros((3, 3)), "same value, 0"),
        (np.full((3, 3), 255), "same value, 255"),
        (255 - phantom()[0], "is it inverted?"),
        (np.array([[0, 0, 255]]), "is it inverted?"),
    ],
)
def test_images_that_cannot_be_a_projection_are_noted(pixels, doubt):
    (note,) = decode_image(text(png(pixels))).notes
    assert doubt in note


@pytest.mark.parametrize("seed", range(3))
def test_a_projection_raises_no_doubt(seed):
    assert read_image(png(phantom(seed=seed)[0])).notes == []


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_same_picture_in_16_bits_is_the_same_picture(height, width, seed):
    samples = seeded(height, width, highest=255, seed=seed)
    samples[0, 0] = 255
    np.testing.assert_array_equal(decode_png(png(samples * 257, 16)), decode_png(png(samples)))
    np.testing.assert_array_equal(decode_png(png(samples, 16)), decode_png(png(samples)))


# Base64


@pytest.mark.parametrize(
    "change",
    [
        lambda s: "data:image/png;base64," + s,
        lambda s: "\n DATA:image/PNG;charset=utf-8;BASE64," + s,
        lambda s: "\r\n".join(s[i : i + 76] for i in range(0, len(s), 76)) + "\n",
        lambda s: " \t" + s,
        lambda s: s.replace("+", "-").replace("/", "_"),
        lambda s: s.rstrip("="),
    ],
    ids=["data URL", "odd data URL", "wrapped", "indented", "url-safe", "unpadded"],
)
def test_base64_with_one_sensible_meaning_is_understood(change):
    plain = text(png(seeded(50, 50)))
    assert "+" in plain
    assert "/" in plain
    assert plain.endswith("=")
    np.testing.assert_array_equal(decode(change(plain)), decode(plain))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:100] + "!" + s[100:],
        lambda s: s[:100] + "é" + s[100:],
        lambda s: s[:100] + "\ud800" + s[100:],
        lambda s: s[:100] + "\0" + s[100:],
        lambda s: s[:100] + "=" + s[100:],
        lambda s: "=" + s,
        lambda s: s[:101],
        lambda s: s + "====" + s,
    ],
)
def test_other_base64_is_refused(change):
    with pytest.raises(ContractError, match="not valid base64") as caught:
        decode(change(text(png(seeded(50, 50)))))
    assert (caught.value.code, caught.value.status) == ("bad_base64", 400)


@pytest.mark.parametrize("img", [None, 1, 1.5, True, [], {}, b"bytes"])
def test_image_must_be_text(img):
    with pytest.raises(ContractError, match="must be a string") as caught:
        decode(img)
    assert caught.value.code == "bad_image_type"


@pytest.mark.parametrize("img", ["data:image/jpeg;base64,/9j/", "data:image/png,abc"])
def test_other_data_urls_are_refused(img):
    with pytest.raises(ContractError, match="data:image/png;base64,"):
        decode(img)


# Limits


def test_limits_are_checked_before_pixels_are_unpacked():
    """The pixels here cannot be unpacked, so only the header can have been read."""
    for width, height in [(2001, 2000), (2**31 - 1, 2**31 - 1), (1, 4_000_001), (65_536, 1)]:
        data = SIGNATURE + header(width, height, 8, RGBA) + b"not even a chunk"
        with pytest.raises(
            ContractError, match=r"at most 4,000,000 pixels \(the server's setting MAX_PIXELS\)"
        ) as caught:
            decode_png(data)
        assert (caught.value.code, caught.value.status) == ("image_too_large", 413)


@pytest.mark.parametrize(("height", "width"), [(2000, 2000), (65_535, 61), (1, 65_535), (1, 1)])
def test_any_shape_within_the_limit_is_taken(height, width):
    assert decode_png(png(np.zeros((height, width, 1)))).shape == (height, width)


def test_incompressible_image_at_the_limit_is_taken():
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=1)
    assert decode(text(out.getvalue())).shape == (2000, 2000)


def test_smaller_limit_can_be_asked_for():
    decode_png(png(RAMP), max_pixels=256)
    with pytest.raises(ContractError, match="16×16 pixels, at most 255 pixels"):
        decode_png(png(RAMP), max_pixels=255)


def test_too_much_base64_is_not_decoded():
    with pytest.raises(ContractError, match="at most 17,048,576") as caught:
        decode("!" * (contract.max_characters() + 1))
    assert caught.value.status == 413


def bomb(kind: bytes, prefix: bytes) -> bytes:
    return chunk(kind, prefix + zlib.compress(bytes(20_000_000), 9))


@pytest.mark.parametrize(
    "data",
    [
        png(RAMP, extra=bomb(b"zTXt", b"k\0\0")),
        png(RAMP, extra=bomb(b"iTXt", b"k\0\1\0\0\0")),
        png(RAMP, extra=bomb(b"iCCP", b"p\0\0")),
        png(RAMP, extra=chunk(b"tEXt", b"k\0" + b"x" * 10_000_000)),
        png(RAMP, extra=chunk(b"teSt") * 60_000),
        png(RAMP, data=rows(RAMP[..., None], 8) + bytes(20_000_000)),
        png(RAMP, data=bytes(20_000_000), interlaced=True),
    ],
    ids=["zTXt", "iTXt", "iCCP", "tEXt", "many chunks", "pixels", "interlaced pixels"],
)
def test_bombs_cost_neither_memory_nor_time(data):
    tracemalloc.start()
    start = time.perf_counter()
    pixels = decode_png(data)
    spent = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels.shape == (16, 16)
    assert peak < 2_000_000
    assert spent < 5  # a tenth of a second, but for the tracing, and for what else runs here


# Damage


def assert_refused(data, message="the PNG is damaged", code="broken_png"):
    with pytest.raises(ContractError, match=message) as caught:
        decode_png(data)
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0 JFIF", "JPEG"),
        (b"GIF89a", "GIF"),
        (b"BM....", "BMP"),
        (b"RIFF....WEBP", "WebP"),
        (b"II*\0", "TIFF"),
        (b"P5 2 2 255 abcd", "something else"),
        (b"\x89PNG\n", "something else"),
    ],
)
def test_only_png_is_taken(data, found):
    assert_refused(data, found, "not_a_png")


def test_png_cut_off_anywhere_is_refused():
    whole = png(RAMP, colour=PALETTE, extra=chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", b"\x05"))
    decode_png(whole)
    for length in range(1, len(whole)):
        with pytest.raises(ContractError):
            decode_png(whole[:length])


def test_png_with_any_bit_flipped_is_refused():
    whole, rng = png(seeded(20, 20)), random.Random(0)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ContractError):
            decode_png(bytes(damaged))


def test_each_checksum_is_checked():
    whole = png(RAMP, colour=PALETTE, extra=chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", b"\x05"))
    for kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
        start = whole.index(kind)
        end = start + 4 + int.from_bytes(whole[start - 4 : start], "big")
        damaged = whole[:end] + b"\0\0\0\0" + whole[end + 4 :]
        assert_refused(damaged, "checksum")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour", [GREY, RGB, RGBA, GREY_ALPHA])
def test_missing_rows_are_never_taken_for_hot_ones(colour, interlaced):
    samples = np.full((16, 16, SAMPLES[colour]), 200)
    whole = png(samples, colour=colour, interlaced=interlaced)
    data = zlib.decompress(whole[whole.index(b"IDAT") + 4 : -16])
    for length in range(0, len(data), 5):
        assert_refused(png(samples, colour=colour, interlaced=interlaced, data=data[:length]))


def test_black_last_row_is_fine():
    assert decode_png(png(np.zeros((3, 3)))).max() == 0


BODY = chunk(b"IDAT", zlib.compress(rows(RAMP[..., None], 8))) + chunk(b"IEND")


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE + header(0, 16) + BODY,
        SIGNATURE + header(16, 0) + BODY,
        SIGNATURE + header(16, 16, depth=3) + BODY,
        SIGNATURE + header(16, 16, depth=0) + BODY,
        SIGNATURE + header(16, 16, depth=4, colour=RGB) + BODY,
        SIGNATURE + header(16, 16, depth=16, colour=PALETTE) + BODY,
        SIGNATURE + header(16, 16, colour=1) + BODY,
        SIGNATURE + header(16, 16, packing=1) + BODY,
        SIGNATURE + header(16, 16, filtering=1) + BODY,
        SIGNATURE + header(16, 16, interlaced=2) + BODY,
        SIGNATURE + BODY,
        SIGNATURE + chunk(b"tEXt", b"k\0v") + header(16, 16) + BODY,
        SIGNATURE + header(16, 16) + header(8, 8) + BODY,
        SIGNATURE + header(16, 16) + chunk(b"IEND"),
        SIGNATURE + header(16, 16, colour=PALETTE) + BODY,
        SIGNATURE + header(16, 16, colour=PALETTE) + chunk(b"PLTE", bytes(30)) + BODY,
        SIGNATURE + header(16, 16) + chunk(b"ABCD") + BODY,
        SIGNATURE + header(16, 16) + chunk(b"tRNS", b"\0") + BODY,
        SIGNATURE + header(16, 16) + chunk(b"teSt") * 70_000 + BODY,
        SIGNATURE + header(16, 16) + b"\xff\xff\xff\xffIDAT" + BODY,
        SIGNATURE + header(16, 16) + chunk(b"IDAT", b"no zlib") + chunk(b"IEND"),
        png(RAMP, data=b"\x09" + bytes(271)),
    ],
)
def test_nonsense_is_refused(data):
    assert_refused(data)


# Masks


def test_mask_travels_as_three_equal_channels():
    _, mask = phantom(489, 400)
    answer = base64.b64decode(encode(mask))
    unpacked = unpack(answer)
    assert unpacked.shape == (489, 400, 3)
    assert (unpacked == mask[..., None]).all()
    assert answer[24:26] == bytes([8, RGB])


def test_check_mask_takes_what_the_challenge_takes():
    good = np.zeros((4, 5, 3), np.uint8)
    good[1, 2] = 255
    check_mask(good, (4, 5))
    check_mask(good, (4, 5, 3))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 5), np.uint8), "shape"),
        (np.zeros((4, 5, 4), np.uint8), "shape"),
        (np.zeros((5, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 5, 3), np.float32), "float32"),
        (np.full((4, 5, 3), 1, np.uint8), "value 1,"),
        (np.full((4, 5, 3), 254, np.uint8), "value 254"),
        (np.dstack([np.zeros((4, 5), np.uint8)] * 2 + [np.full((4, 5), 255, np.uint8)]), "differ"),
    ],
)
def test_check_mask_refuses_what_the_challenge_refuses(mask, message):
    with pytest.raises(ContractError, match=message):
        check_mask(mask, (4, 5))


# Dice


def test_dice_of_known_masks():
    truth = np.array([[255, 255, 0, 0]], np.uint8)
    assert dice(truth, truth) == 1
    assert dice(truth, np.array([[0, 255, 255, 0]], np.uint8)) == 0.5
    assert dice(truth, np.array([[0, 0, 0, 255]], np.uint8)) == 0
    assert dice(truth, np.array([[1, 0, 0, 0]], np.uint8)) == pytest.approx(2 / 3)
    assert dice(truth > 0, truth.astype(np.int64)) == 1


def test_dice_of_two_empty_masks_is_a_perfect_answer():
    empty = np.zeros((3, 3), np.uint8)
    assert dice(empty, empty) == 1
    assert dice(empty, np.full((3, 3), 255, np.uint8)) == 0


def test_dice_of_different_shapes_is_an_error():
    with pytest.raises(ValueError, match="shapes"):
        dice(np.zeros((2, 3)), np.zeros((1, 3)))


@given(st.integers(0, 2**32 - 1))
def test_dice_is_the_challenge_s_formula_and_symmetric(seed):
    a, b = seeded(2, 9, 7, highest=1, seed=seed)
    expected = 2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum())
    assert dice(a, b) == dice(b, a) == pytest.approx(expected)


# Names of images


def test_hash_names_pixels_and_not_files():
    pixels = decode_png(png(RAMP))
    assert contract.image_hash(pixels) == "5f58b075292f7b28"
    assert contract.image_hash(decode_png(png(np.dstack([RAMP] * 3), colour=RGB))) == (
        contract.image_hash(pixels)
    )
    assert contract.image_hash(pixels.T) != contract.image_hash(pixels)
    assert contract.image_hash(pixels.reshape(8, 32)) != contract.image_hash(pixels)
