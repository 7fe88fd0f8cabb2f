"""Image files -> mask files, by several processes at once."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from PIL import Image

from tumour_segmenter import __version__, client, contract, files
from tumour_segmenter.cli.tasks import Outcome, Provenance, Task, add_record, read_record
from tumour_segmenter.errors import UsageError
from tumour_segmenter.measure import measure
from tumour_segmenter.segmenter import check_option, open_model

OVERLAY_COLOUR, OVERLAY_OPACITY = (255, 77, 208), 0.8  # as on the page


@dataclass(frozen=True)
class Plan:
    """What every worker needs to know; `url` goes before `model`."""

    model: str  # "shipped", "fast", "baseline" or a path
    threads: int
    max_pixels: int
    url: str | None = None
    operating_point: str | None = None


# Images that are handed out ahead for each process: enough to keep it busy, few to hold in memory.
AHEAD = 4
MOST_DEATHS = 3  # of processes one after the other, without an image in between
# Errors in writing a file that the next image would meet as well.
NO_MORE_FILES = (*files.FULL, errno.EROFS, errno.EACCES)


_plan: Plan
_segment: Callable[[np.ndarray], np.ndarray]


def start(plan: Plan) -> None:
    """Make this process a worker: open the model once, and end when the main process ends."""
    global _plan, _segment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what it means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _plan = plan
    is_here = plan.url is None
    model = open_model(plan.model, plan.threads) if is_here else client.RemoteSegmenter(plan.url)
    _segment = partial(model, operating_point=plan.operating_point)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def identify(plan: Plan) -> Provenance:
    """Open the model, or ask the server, and return what its masks are made by.

    Raises `ArtifactError`, and `UsageError` where there is no server or no such operating point.
    """
    if plan.url is not None:
        about = client.about(client.check(plan.url))
        if not isinstance(about.get("model"), dict):
            # Another program that keeps the contract: no mask of it can be known to be up to date.
            about = {"model": {"name": f"unknown-{secrets.token_hex(8)}"}, "version": "unknown"}
        metadata, version = about["model"], str(about.get("version"))
        offered = about.get("operating_points", {})
    else:
        model = open_model(plan.model, plan.threads)
        metadata, version, offered = model.metadata, __version__, model.operating_points
    check_option(offered, plan.operating_point)
    name = metadata.get("sha256") or metadata.get("name", "unknown")
    return Provenance(name, version, plan.operating_point or metadata.get("operating_point", ""))


def work(task: Task, provenance: Provenance) -> Outcome:
    """Make the files of `task`, or only count in its mask if it is done; never raises."""
    try:
        record = provenance.record(task.image)
        image = contract.read_image(task.image.read_bytes(), _plan.max_pixels)
        pixels = image.pixels
        if task.is_done(provenance):
            mask, seconds = contract.decode_png(task.mask.read_bytes(), _plan.max_pixels), None
        else:
            begin = time.perf_counter()
            mask = _segment(pixels)
            seconds = time.perf_counter() - begin
            if task.with_overlay:
                files.write(task.overlay, add_record(draw_overlay(pixels, mask), record))
            elif read_record(task.overlay) not in ("", record):
                task.overlay.unlink()  # of the mask before, which it would misrepresent
            files.write(task.mask, add_record(contract.encode_png(mask), record))
        measures = measure(pixels, mask)
        warnings = tuple(filter(None, [*image.notes, measures.warning]))
        return Outcome(task, "", False, measures, seconds, warnings)
    except OSError as error:
        if error.filename == os.fspath(task.image):  # which is named anyway
            return Outcome(task, error.strerror or files.reason(error))
        return Outcome(task, files.reason(error), error.errno in NO_MORE_FILES)
    except Exception as error:  # one image never stops the others
        fault = str(error).strip().partition("\n")[0] or type(error).__name__
        return Outcome(task, fault, isinstance(error, UsageError))


def draw_overlay(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """Return a PNG of grey `pixels`, uint8 H×W, with what `mask` marks in colour."""
    picture = np.stack([pixels] * 3, axis=2)
    marked = mask != 0
    colour = OVERLAY_OPACITY * np.array(OVERLAY_COLOUR)
    picture[marked] = np.round((1 - OVERLAY_OPACITY) * picture[marked] + colour)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def outcomes(
    tasks: Iterable[Task], plan: Plan, provenance: Provenance, jobs: int
) -> Iterator[Outcome]:
    """Yield the outcome of each task as soon as it is there, from `jobs` processes.

    Only a few tasks are handed out at a time. Where a process dies, the tasks that were in work are
    tried again one by one, so that only those that kill theirs fail.
    """
    waiting, suspects, deaths = iter(tasks), deque[Task](), 0
    pool, running = _pool(jobs, plan), dict[Future, Task]()
    try:
        while True:
            alone = bool(suspects)  # so that it is known which task its process dies of
            more = [suspects.popleft()] if alone else islice(waiting, AHEAD * jobs - len(running))
            died = []
            for task in more:
                try:
                    running[pool.submit(work, task, provenance)] = task
                except BrokenProcessPool:
                    died.append(task)
            if not running and not died:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    died.append(task)
                else:
                    deaths = 0
                    yield outcome
            if not died:
                continue
            died += running.values()
            running.clear()
            pool.shutdown()
            pool = _pool(jobs, plan)
            if alone:
                deaths += 1
                fault = "a worker process died, maybe of too little memory; try --jobs 1"
                yield Outcome(died[0], fault, deaths == MOST_DEATHS)
            else:
                suspects.extend(died)
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(jobs: int, plan: Plan) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, initializer=start, initargs=(plan,))
