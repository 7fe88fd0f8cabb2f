"""The page for people: `GET /`, its files, and synthetic phantoms to try it with.

Everything comes from this server: no outside resource, no build step, no inline script or style.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, current_app, g, jsonify

from tumour_segmenter import contract
from tumour_segmenter.labels import decode_label
from tumour_segmenter.phantom import phantom

from ..request_log import Stages
from ..threads import run_in_thread

# What `phantom` draws for examples 1, 2 and 3: a trunk, a trunk without a tumour, a whole body.
EXAMPLES = (
    {"height": 489, "lesions": 3, "seed": 1},
    {"height": 426, "lesions": 0, "seed": 1},
    {"height": 880, "lesions": 5, "seed": 2},
)

page = Blueprint("page", __name__, static_folder="static", static_url_path="/static")


@page.get("/")
def index() -> Response:
    return page.send_static_file("index.html")


@page.get("/examples/<int:number>.png", endpoint="example", defaults={"is_truth": False})
@page.get("/examples/<int:number>_truth.png", endpoint="example_truth", defaults={"is_truth": True})
def example(number: int, is_truth: bool) -> Response:
    if not 1 <= number <= len(EXAMPLES):
        abort(404)
    until = g.began + current_app.extensions["deadline"]
    response = Response(run_in_thread(until, _draw, number)[is_truth], mimetype="image/png")
    response.headers["Cache-Control"] = "max-age=3600"
    return response


@page.post("/label")
def label() -> Response:
    """Read a label as strictly as training does: {"img": base64 PNG} -> {"img": mask}."""

    def read(img: Any, limit: int) -> str:
        marked = decode_label(contract.unpack(img, limit), limit)
        return contract.encode(np.where(marked, np.uint8(255), np.uint8(0)))

    return _convert(read)


@page.post("/image")
def image() -> Response:
    """Return the grey pixels that /predict reads; browsers read some PNGs otherwise."""
    return _convert(lambda img, limit: contract.encode(contract.decode(img, limit)))


def _convert(read: Callable[[Any, int], str]) -> Response:
    with current_app.extensions["intake"].image(Stages()) as (posted, slot):
        limit = current_app.config["MAX_PIXELS"]
        return jsonify(img=run_in_thread(slot.until, read, posted.img, limit))


@page.get("/key")
def key() -> Response:
    """Tell whether a request like this one is served, before an image is sent: 204, else 401."""
    return Response(status=204)


@lru_cache
def _draw(number: int) -> tuple[bytes, bytes]:
    """Return image and truth as PNG; drawn once per worker, when it is asked for."""
    pixels, truth = phantom(**EXAMPLES[number - 1])
    return contract.encode_png(pixels), contract.encode_png(truth)
