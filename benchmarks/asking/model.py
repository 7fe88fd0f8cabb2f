"""Which model answers at an address, and which images it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from tumour_segmenter import client
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

    @classmethod
    def at(cls, url: str) -> Served:
        """Ask the server at `url`; one that knows nothing of this API is no error."""
        about = client.about(url)
        model, points = about.get("model"), about.get("operating_points")
        hashes = client.about(url, "/api/trained_on").get("hashes")
        return cls(
            model if isinstance(model, dict) else {},
            frozenset(map(str, hashes)) if isinstance(hashes, list) and hashes else None,
            list(points) if isinstance(points, dict) else [],
        )

    def __str__(self) -> str:
        if not self.model:
            return "unknown: the server has no /api that names it"
        names = " ".join(str(self.model[key]) for key in ("name", "version") if key in self.model)
        sha256 = str(self.model.get("sha256") or "")
        return f"{names or 'without a name'}, SHA-256 {sha256[:16] or 'not reported'}"

    def check_operating_point(self, name: str) -> None:
        """Raise UsageError unless the server offers it: a server that does not would ignore it."""
        if name not in self.operating_points:
            offers = ", ".join(self.operating_points) or "none"
            raise UsageError(f"no operating point {name!r} there; the server offers: {offers}")
