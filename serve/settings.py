"""Every environment variable that the server reads: name, default, range and one line of help."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from serve.cpus import available_cpus
from serve.png import MAX_PIXELS

PROJECT = Path(__file__).resolve().parent.parent
SHIPPED_MODEL = "artifacts/model.onnx"
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
    Variable("MODEL", SHIPPED_MODEL, "model file, or baseline for the challenge's threshold"),
    Variable("HOST", "0.0.0.0", "address to listen on"),
    Variable("PORT", "8000", "port to listen on", 1, 65_535),
    Variable("WORKERS", "", "worker processes; empty: the CPUs available", 1, 256),
    Variable("THREADS", "", "threads that run one image; empty: CPUs / workers", 1, 256),
    Variable("MAX_PIXELS", str(MAX_PIXELS), "largest image, width × height", 1, 100_000_000),
]


@dataclass(frozen=True)
class Settings:
    """What the server runs with; `Settings.read()` takes it from the environment."""

    model: Path | None  # None is the baseline
    host: str
    port: int
    workers: int
    threads: int
    max_pixels: int

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Parse `environ`, where empty is the same as not set; raises `SettingsError`."""
        texts = {v.name: environ.get(v.name, "").strip() or v.default for v in VARIABLES}
        numbers = {v.name: _number(v, texts[v.name]) for v in VARIABLES if v.lowest is not None}
        cpus = available_cpus()
        workers = numbers["WORKERS"] or cpus
        # The shipped model is found wherever the server is started; any other path is as given.
        model = PROJECT / SHIPPED_MODEL if texts["MODEL"] == SHIPPED_MODEL else texts["MODEL"]
        return cls(
            model=None if model == BASELINE else Path(model),
            host=texts["HOST"],
            port=numbers["PORT"],
            workers=workers,
            threads=numbers["THREADS"] or max(1, cpus // workers),
            max_pixels=numbers["MAX_PIXELS"],
        )


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
