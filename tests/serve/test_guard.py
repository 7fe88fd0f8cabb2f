"""The key, the headers that browsers heed, and the id of a request."""

import json
import os

import pytest

from serve.app import create_app
from serve.settings import Settings
from tumour_segmenter.contract import encode
from tumour_segmenter.phantom import phantom

BODY = json.dumps({"img": encode(phantom(60, 50)[0])})
KEY = "a key, with ü"


@pytest.fixture
def locked(artifact):
    return create_app(Settings.read({"MODEL": os.fspath(artifact), "API_KEY": KEY})).test_client()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
    ],
)
def test_who_has_the_key_is_served(locked, headers):
    for encoding in ("utf-8", "latin-1"):  # HTTP does not say which
        sent = {name: value.encode(encoding).decode("latin-1") for name, value in headers.items()}
        assert locked.post("/predict", data=BODY, headers=sent).status_code == 200


@pytest.mark.parametrize("key", ["ключ", "\udcff", "a" * 4000])
def test_any_key_that_a_header_carries_can_be_used(artifact, key):
    app = create_app(Settings.read({"MODEL": os.fspath(artifact), "API_KEY": key}))
    sent = os.fsencode(key).decode("latin-1")  # the bytes that stand in the environment
    assert app.test_client().get("/key", headers={"X-API-Key": sent}).status_code == 204
    assert app.test_client().get("/key", headers={"X-API-Key": "?"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "a key"},
        {"X-API-Key": "\xff"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
    ],
)
def test_who_has_not_is_told(locked, headers):
    for body in (BODY, "not even JSON"):
        response = locked.post("/predict", data=body, headers=headers)
        assert response.status_code == 401
        assert response.json["error"]["code"] == "unauthorized"
        assert "X-API-Key" in response.json["error"]["message"]
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_what_is_not_listed_as_open_needs_the_key(artifact):
    app = create_app(Settings.read({"MODEL": os.fspath(artifact), "API_KEY": KEY}))
    app.add_url_rule("/new", view_func=lambda: "secret")
    client = app.test_client()
    for path in ("/new", "/api/trained_on", "/metrics", "/nope", "/predict", "/key"):
        response = client.get(path)
        assert (response.status_code, response.json["error"]["code"]) == (401, "unauthorized")
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/openapi.json",
        "/healthz/live",
        "/healthz/ready",
        "/static/page.js",
        "/examples/1.png",
        "/examples/1_truth.png",
    ],
)
def test_what_costs_nothing_needs_no_key(locked, path):
    response = locked.get(path)
    assert response.status_code == 200
    response.close()


@pytest.mark.parametrize("path", ["/", "/api", "/nope", "/static/page.js"])
def test_browsers_are_told_to_be_careful(client, path):
    response = client.get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    response.close()


def test_masks_are_not_kept_on_the_way(client):
    assert client.post("/predict", data=BODY).headers["Cache-Control"] == "no-store"


def test_request_has_an_id(client):
    ids = {client.get("/api").headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3
    given = {"X-Request-ID": "abc-1.2_3"}
    assert client.get("/nope", headers=given).headers["X-Request-ID"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "é", '"'):
        told = client.get("/api", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert told != bad
        assert len(told) == 16
