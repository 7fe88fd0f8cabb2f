"""The model for other Python programs: `from tumour_segmenter import load`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.segmenter import load_model
from tumour_segmenter.settings import BASELINE, Settings


class Library:
    """A segmenter that checks what it is given: an array has no header that says what it is.

    `metadata` says what the model is, `operating_points` which names `operating_point` may have.
    """

    def __init__(self, model: str | os.PathLike[str] | None) -> None:
        """Do what `tumour_segmenter.load` promises."""
        if model is None:
            path = Settings.read().model
        else:
            path = None if os.fspath(model) == BASELINE else Path(model)
        self._segment = load_model(path, available_cpus())
        self.metadata = self._segment.metadata
        self.operating_points = self._segment.operating_points

    def __call__(self, pixels: np.ndarray, operating_point: str | None = None) -> np.ndarray:
        """Turn `pixels`, uint8 [height, width], dark = hot, into a mask of that shape, 0 or 255.

        `operating_point` None is the model's default. Raises `ValueError` for any other array and
        any other name.
        """
        found = np.asarray(pixels)
        if found.dtype != np.uint8 or found.ndim != 2 or not found.size:
            raise ValueError(
                f"the image is {found.dtype} {list(found.shape)}, expected uint8 [height, width], "
                "0 = highest uptake, 255 = none"
            )
        return self._segment(np.ascontiguousarray(found), operating_point=operating_point)
