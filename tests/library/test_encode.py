"""Masks as PNG: what is written is what any reader reads."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tumour_segmenter.contract import decode_png, encode_png
from tumour_segmenter.phantom import phantom


def read(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        image.verify()  # every checksum
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"
        channels = np.asarray(image)
    assert (channels == channels[:, :, :1]).all()
    return channels[..., 0]


@settings(max_examples=150)
@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 299), st.integers(0, 39)), max_size=6),
    st.sampled_from([1, 255]),
)
def test_masks_of_any_size_come_back(height, width, pixels, value):
    mask = np.zeros((height, width), np.uint8)
    for row, column in pixels:
        mask[row % height, column % width] = value
    png = encode_png(mask)
    np.testing.assert_array_equal(read(png), mask)
    np.testing.assert_array_equal(decode_png(png), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2000, 2000)])
@pytest.mark.parametrize("value", [0, 255])
def test_masks_of_one_value_come_back(shape, value):
    mask = np.full(shape, value, np.uint8)
    np.testing.assert_array_equal(read(encode_png(mask)), mask)


def test_any_grey_image_comes_back():
    noise = np.random.default_rng(0).integers(0, 256, (77, 55), np.uint8)
    np.testing.assert_array_equal(read(encode_png(noise)), noise)


def test_a_mask_is_small():
    _, truth = phantom(991, 400)
    out = io.BytesIO()
    Image.fromarray(truth).convert("RGB").save(out, "PNG", compress_level=9)
    assert len(encode_png(truth)) < 1.5 * len(out.getvalue())
