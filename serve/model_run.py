"""One image through the model, which is stopped when its time is over."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from tumour_segmenter.segmenter import Baseline, Prediction, Segmenter

from .queue import Overloaded, Queue
from .threads import Call

# Seconds in which a run that was told to stop must come back, or it counts as hung. onnxruntime
# looks between two nodes of the graph; no node of a model takes as long.
GRACE = 1


def run(
    segmenter: Segmenter | Baseline, queue: Queue, pixels: np.ndarray, until: float, **asked: Any
) -> Prediction:
    """Return what `segmenter.run` predicts for `pixels` and what is `asked`.

    Raises `Overloaded` if it is not done at `until`, a time of `time.monotonic`. A run that goes
    on although it was stopped closes the queue: the model will not be free again.
    """
    options = segmenter.run_options(pixels)
    call = Call(partial(segmenter.run, pixels, options=options, **asked))
    if call.is_done(until):
        return call.result()
    options.terminate = True
    if not call.is_done(time.monotonic() + GRACE):
        queue.close()
        raise Overloaded("the model hangs")
    raise Overloaded("the model did not finish in time")
