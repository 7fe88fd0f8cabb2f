"""Tumour masks of whole-body FDG-PET projections: grey pixels in, a mask out.

Three lines:

    from tumour_segmenter import load
    segment = load()
    mask = segment(pixels)  # uint8 [height, width], dark = high uptake -> uint8, 0 or 255
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tumour_segmenter.segmenter import Baseline, Segmenter

__version__ = "2.0.0"

# onnxruntime reports to its vendor and keeps a device id in the home folder unless told not to.
# Images of patients call nobody: set here, before anything can import it, whatever was set before.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if "onnxruntime" in sys.modules:  # another program's import, too late for the variable
    sys.modules["onnxruntime"].disable_telemetry_events()


def load(model: str | os.PathLike[str] | None = None) -> Segmenter | Baseline:
    """Open a model and return it as a function from grey pixels to a mask.

    model: "shipped" (five networks), "fast" (two, in two fifths of the time), "baseline" for the
    challenge's threshold, an ONNX file with its checksum beside it (`FILE.sha256`), or None for the
    one that the environment variable MODEL names, by default the shipped one.

    The function takes uint8 [height, width], 0 = highest uptake, 255 = none, and returns uint8
    [height, width], 255 = tumour, 0 = not; other arrays raise `ValueError`. It also takes
    `operating_point=`, one of its `operating_points`; its `probability(pixels)` is float32 [height,
    width], 0 to 1, and its `metadata` says what the model is. It uses all CPUs that this process
    may use and may be called from several threads. Raises `tumour_segmenter.errors.ArtifactError`
    if the model cannot be opened.

    Import it before onnxruntime, so that onnxruntime's telemetry is off from the start.
    """
    # numpy and onnxruntime only when they are needed
    from tumour_segmenter.cpus import available_cpus
    from tumour_segmenter.segmenter import open_model
    from tumour_segmenter.settings import named_model

    return open_model(named_model() if model is None else model, available_cpus())
