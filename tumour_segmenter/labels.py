"""The one reader of labels, masks drawn by people: strict, because a label is never looked at."""

from __future__ import annotations

import numpy as np

from tumour_segmenter.errors import ContractError
from tumour_segmenter.png import GREY, MAX_PIXELS, RGB_TYPES, Header, read_samples

MOST_OF_THE_IMAGE = 0.5
EXPECTED = "expected two values, 0 = background and 255 = tumour"


def decode_label(
    data: bytes, max_pixels: int = MAX_PIXELS, most: float = MOST_OF_THE_IMAGE
) -> np.ndarray:
    """Turn the PNG of a label into bool H×W, True = tumour.

    White marks the tumour and black the background, in any colour type and depth of PNG; grey
    files may write 1, or 255 in 16 bits, for white. Transparent pixels are background: white on
    a transparent ground is read by its transparency. What can be meant in more than one way is
    refused: other values, half-transparent pixels, a colour that contradicts the transparency,
    and a label that covers more than `most` of the image. Raises `ContractError`.
    """
    header, colours, opacity = read_samples(data, max_pixels)
    # Of 16 bits with colours or alpha only the high bytes are known: 255 would look like 0.
    if header.depth == 16 and header.colour != GREY and not (colours.any() and opacity.any()):
        raise _refused("it is all black or transparent in 16 bits; save it as 8-bit grey")
    marked = _white(header, colours)
    visible = opacity == 255
    if not (visible | (opacity == 0)).all():
        raise _refused(
            f"{np.count_nonzero((opacity > 0) & ~visible):,} pixels are half-transparent; save it "
            "without transparency or soft edges"
        )
    if not visible.all():
        if visible.any() and not marked[visible].any():
            raise _refused("on a transparent ground it shows only black, which could mean either")
        # White everywhere says nothing: then the transparency is the label.
        if not marked.all() and (marked & ~visible).any():
            raise _refused("its transparency and its colours contradict each other")
        marked = marked & visible
    share = np.count_nonzero(marked) / marked.size
    if share > most:
        raise _refused(f"it marks {share:.0%} of the image as tumour; is it inverted?")
    return marked


def _white(header: Header, colours: np.ndarray) -> np.ndarray:
    """Return bool H×W: where the colour is white; everything else must be black."""
    if header.colour in RGB_TYPES and (coloured := (colours != colours[..., :1]).any(axis=2)).any():
        raise _refused(f"it holds the colour #{bytes(colours[coloured][0]).hex()}; {EXPECTED}")
    grey = colours[..., 0]
    found = np.unique(grey)
    highest = 65535 if grey.dtype == np.uint16 else 255
    step = 255 // (2**header.depth - 1) if header.depth < 8 else 1  # Pillow scales few bits up
    white = {highest, step, 255} if header.colour == GREY else {highest}
    others = found[found != 0]
    if len(others) > 1 or (len(others) and int(others[0]) not in white):
        values = ", ".join(str(value // step) for value in found[:5].tolist())
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise _refused(
            f"it holds the value{'s' if len(found) > 1 else ''} {values}{more}; {EXPECTED}"
        )
    return grey != 0


def _refused(why: str) -> ContractError:
    return ContractError("bad_label", f"this label cannot be used: {why}")
