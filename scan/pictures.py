"""PNGs of a projection and its mask."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from serve.batch import draw_overlay
from serve.contract import encode_png


def grey_png(pixels: np.ndarray) -> bytes:
    """PNG of grey pixels, uint8 H×W, one channel: what the model gets."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def mask_png(mask: np.ndarray) -> bytes:
    """PNG of a mask, uint8 H×W of 0 and 255, three channels as `serve predict` writes it."""
    return encode_png(mask)


def overlay_png(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """PNG of the projection with what is marked in colour, as on the examples page."""
    return draw_overlay(pixels, mask)
