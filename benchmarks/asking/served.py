"""Which model answers at an address, and which images it was trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.asking import client
from tumour_segmenter.errors import UsageError


@dataclass(frozen=True)
class Served:
    """What a server reports of its model; `model` is empty where it reports nothing.

    trained_on: hashes of images as `contract.image_hash` gives them, None where it does not say;
    operating_points: names that a request may choose, in the server's order.
    """

    model: dict
    trained_on: frozenset[str] | None
    operating_points: list[str]

    def __str__(self) -> str:
        if not self.model:
            return "unknown: the server has no /api that names it"
        said = " ".join(str(self.model[key]) for key in ("name", "version") if key in self.model)
        sha256 = str(self.model.get("sha256") or "")
        return f"{said or 'without a name'}, SHA-256 {sha256[:16] or 'not reported'}"

    def check_operating_point(self, name: str) -> None:
        """Raise UsageError unless the server offers it: a server that does not would ignore it."""
        if name not in self.operating_points:
            offers = ", ".join(self.operating_points) or "none"
            raise UsageError(f"no operating point {name!r} there; the server offers: {offers}")


def served(url: str) -> Served:
    """Ask the server at `url`; one that knows nothing of this API is no error."""
    about = _get(url, "/api")
    model, points = about.get("model"), about.get("operating_points")
    hashes = _get(url, "/api/trained_on").get("hashes")
    return Served(
        model if isinstance(model, dict) else {},
        frozenset(map(str, hashes)) if isinstance(hashes, list) and hashes else None,
        list(points) if isinstance(points, dict) else [],
    )


def _get(url: str, path: str) -> dict:
    try:
        reply = client.ask(url, path)
        answer = json.loads(reply.body) if reply.status == 200 else {}
    except (client.Unanswered, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}
