"""What is counted in a mask: lesions, their area and their share of the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tumour_segmenter.lesions import label

# Darker than this is body; what is lighter is noise of the air around it.
BODY_BELOW = 250
# No label of the challenge marks more than 37 % of the body, half of them less than 2 %.
ABSURD_SHARE = 0.4


@dataclass(frozen=True)
class Measures:
    """Height, width and areas are in pixels."""

    height: int
    width: int
    lesions: int
    tumour_pixels: int
    body_pixels: int

    @property
    def share_of_body(self) -> float:
        """Tumour pixels / body pixels, 0.0 where there is no body."""
        return self.tumour_pixels / self.body_pixels if self.body_pixels else 0.0

    @property
    def warning(self) -> str:
        """One line if the mask marks an absurd share of the body, else empty."""
        return share_warning(self.tumour_pixels, self.body_pixels)


def share_warning(tumour_pixels: int, body_pixels: int) -> str:
    """Return one line if so much of the body cannot be tumour, else an empty text."""
    if not tumour_pixels or tumour_pixels <= ABSURD_SHARE * body_pixels:
        return ""
    share = f"{tumour_pixels / body_pixels:.0%} of the body" if body_pixels else "air only"
    return f"the mask marks {share}; is the image inverted, or not a PET projection?"


def measure(pixels: np.ndarray, mask: np.ndarray) -> Measures:
    """Count in `pixels`, grey uint8 H×W, dark = hot, and its `mask`, H×W, nonzero = tumour."""
    body = np.count_nonzero(pixels < BODY_BELOW)
    _, lesions = label(mask)
    return Measures(*mask.shape, lesions, np.count_nonzero(mask), body)
