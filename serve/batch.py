"""Image files -> mask files, by several processes at once."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from serve import contract
from serve.measure import measure
from serve.remote import RemoteSegmenter
from serve.segmenter import Baseline, Segmenter
from serve.tasks import Outcome, Task, write

OVERLAY_COLOUR, OVERLAY_OPACITY = (255, 77, 208), 0.8  # as on the page


@dataclass(frozen=True)
class Plan:
    """What every worker needs to know; `model` None is the baseline, `url` goes before it."""

    model: Path | None
    threads: int
    max_pixels: int
    url: str | None = None
    api_key: str = ""


_plan: Plan
_segment: Callable[[np.ndarray], np.ndarray]


def start(plan: Plan) -> None:
    """Make this process a worker: open the model once, and end when the main process ends."""
    global _plan, _segment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what it means
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _plan, _segment = plan, open_model(plan)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def open_model(plan: Plan) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns pixels into a mask; raises `ArtifactError`."""
    if plan.url:
        return RemoteSegmenter(plan.url, plan.api_key)
    return Segmenter.load(plan.model, plan.threads) if plan.model else Baseline()


def work(task: Task) -> Outcome:
    """Make the files of `task`, or only count in its mask if it is done; never raises."""
    try:
        pixels = contract.decode_png(task.image.read_bytes(), _plan.max_pixels)
        if task.is_done:
            mask, seconds = contract.decode_png(task.mask.read_bytes(), _plan.max_pixels), None
        else:
            begin = time.perf_counter()
            mask = _segment(pixels)
            seconds = time.perf_counter() - begin
            if task.overlay:
                write(task.overlay, draw_overlay(pixels, mask))
            write(task.mask, contract.encode_png(mask))
            task.stamp()
        return Outcome(task, "", mask.shape, measure(pixels, mask), seconds)
    except OSError as error:
        return Outcome(task, f"{error.filename or task.image}: {error.strerror or error}")
    except Exception as error:  # one image never stops the others
        return Outcome(task, str(error).strip().partition("\n")[0] or type(error).__name__)


def draw_overlay(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """Return a PNG of grey `pixels`, uint8 H×W, with what `mask` marks in colour."""
    picture = np.stack([pixels] * 3, axis=2).astype(np.float32)
    marked = mask != 0
    picture[marked] *= 1 - OVERLAY_OPACITY
    picture[marked] += np.float32(OVERLAY_OPACITY) * np.array(OVERLAY_COLOUR, np.float32)
    out = io.BytesIO()
    Image.fromarray(picture.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def outcomes(tasks: list[Task], plan: Plan, jobs: int) -> Iterator[Outcome]:
    """Yield the outcome of each task as soon as it is there, from `jobs` processes."""
    if not tasks:
        return
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=start, initargs=(plan,)
    )
    try:
        futures = {pool.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                fault = "a worker process died, maybe of too little memory; try --jobs 1"
                yield Outcome(futures[future], fault)
    finally:
        pool.shutdown(cancel_futures=True)
