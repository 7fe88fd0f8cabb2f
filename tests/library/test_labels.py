"""A label is read in the one way that it can be meant, or refused by name."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.support.pngs import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, png
from tumour_segmenter.contract import ContractError, encode_png
from tumour_segmenter.labels import decode_label

BLACK_AND_WHITE = chunk(b"PLTE", bytes([0, 0, 0, 255, 255, 255]))
WHITE_AND_BLACK = chunk(b"PLTE", bytes([255, 255, 255, 0, 0, 0]))


def stack(*channels) -> np.ndarray:
    return np.dstack(np.broadcast_arrays(*channels)).astype(np.uint16)


# One and the same label in all ways of saving it; each gets 0 and 1, H×W.
MEANT = {
    "8-bit grey": lambda m: png(255 * m),
    "the mask of the server": lambda m: encode_png((255 * m).astype(np.uint8)),
    "interlaced": lambda m: png(255 * m, interlaced=True),
    "1-bit": lambda m: png(m, 1),
    "2-bit": lambda m: png(3 * m, 2),
    "4-bit": lambda m: png(15 * m, 4),
    "16-bit": lambda m: png(65535 * m.astype(np.uint32), 16),
    "255 in 16 bits": lambda m: png(255 * m, 16),
    "1 in 8 bits": lambda m: png(m),
    "1 in 4 bits": lambda m: png(m, 4),
    "1 in 16 bits": lambda m: png(m, 16),
    "palette": lambda m: png(m, 1, PALETTE, extra=BLACK_AND_WHITE),
    "palette the other way round": lambda m: png(1 - m, 8, PALETTE, extra=WHITE_AND_BLACK),
    "RGB": lambda m: png(stack(255 * m, 255 * m, 255 * m), 8, RGB),
    "RGBA, opaque": lambda m: png(stack(255 * m, 255 * m, 255 * m, 255), 8, RGBA),
    "RGBA, white on transparent black": lambda m: png(stack(*[255 * m] * 4), 8, RGBA),
    "RGBA, white with the mask in alpha": lambda m: png(stack(255, 255, 255, 255 * m), 8, RGBA),
    "grey and alpha, white on transparent black": lambda m: png(stack(255 * m, 255 * m), 8, 4),
    "grey and alpha, mask in alpha": lambda m: png(stack(255, 255 * m), 8, GREY_ALPHA),
    "black is called transparent": lambda m: png(255 * m, extra=chunk(b"tRNS", b"\0\0")),
    "RGB, black is called transparent": lambda m: png(
        stack(255 * m, 255 * m, 255 * m), 8, RGB, extra=chunk(b"tRNS", bytes(6))
    ),
    "palette, black is transparent": lambda m: png(
        m, 8, PALETTE, extra=BLACK_AND_WHITE + chunk(b"tRNS", b"\0")
    ),
}


@pytest.mark.parametrize("save", MEANT.values(), ids=MEANT)
@given(mask=arrays(np.uint16, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements={}))
def test_same_label_is_read_however_it_was_saved(save, mask):
    mask = mask % 2
    mask[: (len(mask) + 1) // 2] = 0  # at most half of the image
    mask[-1, -1] = 1
    read = decode_label(save(mask))
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask == 1)


def test_colours_with_16_bits_are_read():
    mask = np.array([[0, 0, 1]])
    white = 65535 * mask
    np.testing.assert_array_equal(decode_label(png(stack(*[white] * 3), 16, RGB)), mask == 1)
    np.testing.assert_array_equal(decode_label(png(stack(*[white] * 4), 16, RGBA)), mask == 1)


@pytest.mark.parametrize(
    "data",
    [png(np.zeros((3, 3))), png(np.zeros((3, 3, 4)), 8, RGBA), png(stack(255, [[0, 0]]), 8, 4)],
    ids=["black", "transparent black", "white, alpha is empty"],
)
def test_label_without_tumour_is_one(data):
    assert not decode_label(data).any()


HALF = [[0, 0, 0, 128]]
REFUSED = {
    "0 and 2": (png([[0, 0, 2]]), "it holds the values 0, 2;"),
    "0 and 128": (png([[0, 0, 128]]), "values 0, 128;"),
    "2 in 4 bits": (png([[0, 0, 2]], 4), "values 0, 2;"),
    "0 and 4095": (png([[0, 0, 4095]], 16), "values 0, 4095;"),
    "0 and 254": (png([[0, 0, 254]]), "values 0, 254;"),
    "one grey": (png([[7, 7, 7]]), "the value 7;"),
    "three values": (png([[0, 0, 0, 1, 255]]), "values 0, 1, 255;"),
    "soft edges": (png([np.arange(30)]), "values 0, 1, 2, 3, 4 and 25 more;"),
    "no black": (png([[128, 128, 255]]), "values 128, 255;"),
    "red": (png([[[0, 0, 0], [0, 0, 0], [255, 0, 0]]], 8, RGB), "the colour #ff0000;"),
    "a palette with red": (
        png([[0, 0, 1]], 8, PALETTE, extra=chunk(b"PLTE", bytes([0, 0, 0, 128, 0, 0]))),
        "the colour #800000;",
    ),
    "white on visible black, but white is transparent": (
        png([[0, 0, 255]], extra=chunk(b"tRNS", struct.pack(">H", 255))),
        "shows only black",
    ),
    "black drawn on nothing": (png(stack(0, [[0, 0, 255]]), 8, GREY_ALPHA), "shows only black"),
    "half-transparent": (png(stack(255, HALF), 8, GREY_ALPHA), "1 pixels are half-transparent"),
    "one mask in alpha, another in the colours": (
        png(stack([[0, 255, 0, 255]], [[0, 0, 255, 255]]), 8, GREY_ALPHA),
        "contradict each other",
    ),
    "all transparent, a mask in the colours": (
        png(stack([[0, 0, 255]], 0), 8, GREY_ALPHA),
        "contradict each other",
    ),
    "inverted": (png([[255, 255, 255, 0]]), "marks 75% of the image as tumour; is it inverted?"),
    "inverted in alpha": (png(stack(255, [[255, 255, 0]]), 8, 4), "is it inverted?"),
    "all white": (png([[255]]), "marks 100% of the image"),
    "255 of 65535 in RGB": (png(stack(*[[[0, 255]]] * 3), 16, RGB), "in 16 bits"),
    "255 of 65535 in alpha": (png(stack(65535, [[0, 255]]), 16, GREY_ALPHA), "in 16 bits"),
}


@pytest.mark.parametrize(("data", "found"), REFUSED.values(), ids=REFUSED)
def test_what_could_mean_two_things_is_refused_by_name(data, found):
    with pytest.raises(ContractError) as caught:
        decode_label(data)
    assert found in str(caught.value)
    assert str(caught.value).startswith("this label cannot be used: ")
    assert (caught.value.code, caught.value.status) == ("bad_label", 400)


def test_half_of_the_image_may_be_tumour():
    assert decode_label(png([[0, 255]])).sum() == 1


PIXEL = st.tuples(st.sampled_from([0, 255]), st.sampled_from([0, 255]))


@given(st.lists(PIXEL, min_size=1, max_size=6))
def test_colour_and_transparency_never_lose_to_each_other(pixels):
    """Whatever is accepted is what anyone sees on black, and neither of the two contradicts it."""
    grey, alpha = np.array([pixels]).transpose(2, 0, 1)
    try:
        label = decode_label(png(stack(grey, alpha), 8, GREY_ALPHA))
    except ContractError:
        return
    seen = (grey > 0) & (alpha > 0)
    np.testing.assert_array_equal(label, seen)
    assert (grey > 0).all() or np.array_equal(grey > 0, seen)
    assert seen.any() or not (alpha > 0).any() or (alpha > 0).all()


@given(st.binary(max_size=60), st.sampled_from([(GREY, 8), (GREY, 2), (GREY, 16), (RGB, 8)]))
def test_any_pixels_are_a_label_or_an_error(content, kind):
    colour, depth = kind
    samples = np.frombuffer(content.ljust(3, b"\0"), np.uint8).astype(int) % 2 ** min(depth, 8)
    samples = samples[: len(samples) // 3 * 3].reshape(1, -1, 3 if colour == RGB else 1)
    try:
        label = decode_label(png(samples, depth, colour))
    except ContractError:
        return
    assert label.shape == samples.shape[:2]
    assert len(np.unique(samples)) <= 2
    np.testing.assert_array_equal(label, samples[..., 0] > 0)


def test_size_is_limited():
    with pytest.raises(ContractError, match="at most 3 pixels"):
        decode_label(png(np.zeros((2, 2))), max_pixels=3)
