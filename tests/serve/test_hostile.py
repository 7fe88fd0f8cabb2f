"""What a body costs at most, and images of every shape and mode through the whole API."""

import base64
import io
import json
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serve.app import create_app
from serve.settings import Settings
from tests.support.pngs import GREY, GREY_ALPHA, RGB, RGBA, SAMPLES, png
from tumour_segmenter.contract import check_mask

LONG = 17_000_000
MEMORY = 4 * LONG

EXPENSIVE = {
    "no PNG": (b'{"img": "' + b"A" * LONG + b'"}', "not_a_png"),
    "a PNG's beginning": (b'{"img": "iVBORw0KGgo' + b"A" * LONG + b'"}', "broken_png"),
    "another key": (b'{"x": "' + b"A" * LONG + b'", "img": ""}', "not_a_png"),
    "many lists": (b'{"img": "", "x": [' + b"[]," * (LONG // 3) + b"[]]}", "bad_json"),
    "many numbers": (b'{"img": [' + b"1," * (LONG // 2) + b"1]}", "bad_json"),
    "many keys": (
        b'{"img": "", ' + b",".join(b'"%d":1' % i for i in range(10**6)) + b"}",
        "bad_json",
    ),
    "deep": (b'{"img":' + b"[" * LONG, "bad_json"),
    "digits": (b'{"img": ' + b"9" * LONG + b"}", "bad_image_type"),
    "a wide character": ('{"img": "😀'.encode() + b"A" * LONG + b'"}', "bad_base64"),
    "escaped in another key": (
        b'{"img": "", "x": "\\ud83d' + b"A" * (LONG // 3) + b'"}',
        "not_a_png",
    ),
    "escapes": (b'{"img": "' + b"\\u0041" * (LONG // 6) + b'"}', "not_a_png"),
    "UTF-16": (('{"img": "' + "A" * (LONG // 2) + '"}').encode("utf-16"), "not_a_png"),
    "UTF-32": (('{"img": "' + "A" * (LONG // 4) + '"}').encode("utf-32"), "not_a_png"),
    "white space": (b" " * LONG, "bad_json"),
    "zeros": (bytes(LONG), "bad_json"),
    "wrapped lines": (b'{"img": "' + b"AAAA\\r\\n" * (LONG // 8) + b'"}', "not_a_png"),
}


@pytest.mark.parametrize("case", EXPENSIVE)
def test_long_body_costs_little_more_than_its_length(client, case):
    body, code = EXPENSIVE[case]
    tracemalloc.start()
    try:
        response = client.post("/predict", data=body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (response.status_code, response.json["error"]["code"]) == (400, code)
    assert peak < MEMORY


def big(**others) -> dict:
    """Return a document of over 4 MiB with an image."""
    noise = np.random.default_rng(0).integers(0, 256, (1450, 2200))
    return {"img": base64.b64encode(png(noise)).decode(), **others}


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + json.dumps(big()),
        json.dumps(big(patient="Müller"), ensure_ascii=False),
        json.dumps(big(patient="Müller")),
        json.dumps({"😀": 1} | big(), ensure_ascii=False),
        json.dumps(big(é="患者"), ensure_ascii=False).replace("/", "\\/"),
        json.dumps(big()).encode("utf-16"),
        json.dumps(big(name="é😀"), ensure_ascii=False).encode("utf-16-be"),
        json.dumps(big()).encode("utf-32"),
        ("\ufeff" + json.dumps(big(name="é"), ensure_ascii=False)).encode("utf-32-le"),
    ],
    ids=["BOM", "é", "escape", "key", "slashes", "UTF-16", "UTF-16BE", "UTF-32", "UTF-32LE BOM"],
)
def test_long_json_may_hold_any_character(client, body):
    assert len(body) > 4 * 2**20
    assert client.post("/predict", data=body).status_code == 200


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("filling", [0, 2**20 - 2, 5 * 2**20])
def test_what_is_no_unicode_is_refused(client, bad, filling):
    body = b'{"x": "' + b"a" * filling + bad + b'", "img": ""}'
    response = client.post("/predict", data=body)
    assert (response.status_code, response.json["error"]["code"]) == (400, "bad_json")


def test_escaped_plus_signs_are_understood(client):  # as .NET writes base64
    noise = np.random.default_rng(0).integers(0, 256, (50, 50))
    body = json.dumps({"img": base64.b64encode(png(noise)).decode()}).replace("+", "\\u002B")
    assert "\\u002B" in body
    assert client.post("/predict", data=body).status_code == 200


@pytest.fixture(scope="module")
def two_apps(artifact):
    """Clients of two apps, as two workers, or one before and one after a restart."""
    chosen = Settings.read({"MODEL": os.fspath(artifact)})
    return [create_app(chosen).test_client() for _ in range(2)]


KINDS = [(GREY, 8), (GREY, 16), (GREY_ALPHA, 8), (RGB, 8), (RGB, 16), (RGBA, 8), (RGBA, 16)]


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from([*KINDS, (GREY, 1), (GREY, 2), (GREY, 4)]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_image_gets_a_mask_of_its_size_and_always_the_same(
    two_apps, height, width, kind, interlaced, seed
):
    colour, depth = kind
    shape = (height, width, SAMPLES[colour])
    samples = np.random.default_rng(seed).integers(0, 2**depth, shape)
    img = base64.b64encode(png(samples, depth, colour, interlaced)).decode()
    first, second = (client.post("/predict", json={"img": img}) for client in two_apps)
    assert first.status_code == 200
    assert first.data == second.data
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(first.json["img"]))))
    check_mask(mask, (height, width))
