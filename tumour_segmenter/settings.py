"""Every environment variable that the server reads: name, default, range and one line of help."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tumour_segmenter.contract import MAX_PIXELS, max_characters
from tumour_segmenter.cpus import available_cpus

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent
SHIPPED = "artifacts/model.onnx"
BASELINE = "baseline"


class SettingsError(ValueError):
    """A variable with a value that cannot be used; the message names both."""


class Variable(NamedTuple):
    """One row of the table: a whole number where a range is given, else text."""

    name: str
    default: str
    help: str
    lowest: int | None = None
    highest: int | None = None


VARIABLES = [
    Variable("MODEL", "", "model file, or baseline (a threshold); empty: the shipped one"),
    Variable("HOST", "0.0.0.0", "address to listen on"),
    Variable("PORT", "8000", "port to listen on", 1, 65_535),
    Variable("WORKERS", "", "worker processes; empty: the CPUs available", 1, 256),
    Variable("THREADS", "", "threads that run one image; empty: CPUs / workers", 1, 256),
    Variable("MAX_PIXELS", str(MAX_PIXELS), "largest image, width × height", 1, 100_000_000),
    Variable("QUEUE", "16", "images in flight in a worker; more are answered 503", 1, 1000),
    Variable("DEADLINE", "9", "seconds in which an image is answered, or refused", 1, 3600),
    Variable("DRAIN", "0", "seconds after SIGTERM of still serving, /healthz/ready 503", 0, 600),
    Variable("API_KEY", "", "key that clients must send; empty: everyone is served"),
    Variable("METRICS", "off", "on: figures for Prometheus at /metrics; needs prometheus_client"),
]
# Room for the JSON around an image, and for what a client adds that is not looked at.
ENVELOPE = 2**16


@dataclass(frozen=True)
class Settings:
    """What the server runs with: a field for each variable, in lower case."""

    model: Path | None  # None is the baseline
    host: str
    port: int
    workers: int
    threads: int
    max_pixels: int
    queue: int
    deadline: int
    drain: int
    api_key: str
    metrics: bool

    @property
    def max_body(self) -> int:
        """The length of the longest body of a request, in bytes."""
        return max_characters(self.max_pixels) + ENVELOPE

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Parse `environ`, where empty is the same as not set; raises `SettingsError`."""
        given: dict[str, Any] = {}
        for v in VARIABLES:
            text = environ.get(v.name, "").strip() or v.default
            given[v.name.lower()] = text if v.lowest is None else _number(v, text)
        if given["metrics"] not in ("on", "off"):
            raise SettingsError(f"METRICS={given['metrics']!r} is neither on nor off")
        given["metrics"] = given["metrics"] == "on"
        model = given["model"] or shipped_model()
        given["model"] = None if model == BASELINE else Path(model)
        cpus = available_cpus()
        given["workers"] = given["workers"] or cpus
        given["threads"] = given["threads"] or max(1, cpus // given["workers"])
        return cls(**given)


def shipped_model() -> Path:
    """Return the shipped model file, wherever the server is started."""
    # An installed package has its artifacts inside.
    return (PACKAGE if (PACKAGE / "artifacts").is_dir() else PROJECT) / SHIPPED


def _number(variable: Variable, text: str) -> int | None:
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not variable.lowest <= number <= variable.highest:
        raise SettingsError(
            f"{variable.name}={text!r} is not a whole number from {variable.lowest} to "
            f"{variable.highest}"
        )
    return number
