"""The model opened, and tried on the synthetic phantom, whose mask is known."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from tumour_segmenter.errors import ArtifactError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.segmenter import Baseline, Segmenter, open_model

from .settings import Settings

# Other processors round otherwise, which flips single pixels at a lesion's edge.
TOLERANCE = 0.02


def open_tried(settings: Settings, content: bytes | None) -> Segmenter | Baseline:
    """Open the model of `settings`, whose file has this `content`, and try it.

    So it is warm as well. Raises `ArtifactError` if its mask of the phantom is none, or another
    than the one it gave when it was exported, if its metadata say how large that was.
    """
    segmenter = open_model(settings.model, settings.threads, content)
    pixels, _ = phantom()
    try:
        mask = segmenter(pixels)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ArtifactError(f"the model fails on the synthetic phantom: {error}") from error
    if mask.shape != pixels.shape or mask.dtype != np.uint8 or not np.isin(mask, (0, 255)).all():
        raise ArtifactError(
            f"the model's mask of the synthetic phantom is {mask.dtype} of shape {mask.shape}, "
            f"expected uint8 0 or 255 of shape {pixels.shape}; export it again"
        )
    found, known = np.count_nonzero(mask), segmenter.metadata.get("canary_tumour_pixels")
    if known is not None and abs(found - int(known)) > TOLERANCE * int(known) + 5:
        raise ArtifactError(
            f"the model marks {found} pixels of the synthetic phantom, but {known} when it was "
            "exported; install the versions in requirements-serve.txt, or export it again"
        )
    return segmenter


def check(settings: Settings, content: bytes | None) -> None:
    """Do what `open_tried` does in a process of its own, and leave nothing of it in this one.

    A session's threads would not survive the forks of the workers to come.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
        try:
            process.submit(_try, settings, content).result()
        except BrokenProcessPool as error:
            raise ArtifactError(
                "the process that tried the model was killed; is there too little memory?"
            ) from error


def _try(settings: Settings, content: bytes | None) -> None:
    open_tried(settings, content)
