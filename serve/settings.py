"""Every environment variable that the server reads: name, default, range and one line of help."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tumour_segmenter.contract import max_characters
from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.errors import SettingsError
from tumour_segmenter.settings import API_KEY, MAX_PIXELS, MODEL, Variable, read

VARIABLES = [
    MODEL,
    Variable("HOST", "0.0.0.0", "address to listen on"),
    Variable("PORT", "8000", "port to listen on", 1, 65_535),
    Variable("WORKERS", "", "worker processes; empty: the CPUs available", 1, 256),
    Variable("THREADS", "", "threads that run one image; empty: CPUs / workers", 1, 256),
    MAX_PIXELS,
    Variable("QUEUE", "16", "images in flight in a worker; more are answered 503", 1, 1000),
    Variable("DEADLINE", "9", "seconds in which an image is answered, or refused", 1, 3600),
    Variable("DRAIN", "0", "seconds after SIGTERM of still serving, /healthz/ready 503", 0, 600),
    API_KEY,
    Variable("METRICS", "off", "on: figures for Prometheus at /metrics; needs prometheus_client"),
]
# Room for the JSON around an image, and for what a client adds that is not looked at.
ENVELOPE = 2**16
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A name of a machine; its last part has a letter, or it would be half an address.
NAME = re.compile(r"([a-z0-9-]+\.)*[a-z0-9-]*[a-z][a-z0-9-]*\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """What the server runs with: a field for each variable, in lower case."""

    model: str  # "shipped", "fast", "baseline" or a path
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
        given = read(VARIABLES, environ)
        if given["metrics"] not in ("on", "off"):
            raise SettingsError(f"METRICS={given['metrics']!r} is neither on nor off")
        given["metrics"] = given["metrics"] == "on"
        given["host"] = _host(given["host"])
        if CONTROL.search(given["api_key"]):
            raise SettingsError("API_KEY holds a line break or another sign that no header carries")
        cpus = available_cpus()
        given["workers"] = given["workers"] or cpus
        given["threads"] = given["threads"] or max(1, cpus // given["workers"])
        return cls(**given)


def shown_host(host: str) -> str:
    """Return an address as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if NAME.fullmatch(text):
            return text
    raise SettingsError(
        f"HOST={text!r} is no address such as 0.0.0.0, 127.0.0.1 or ::1; the port goes into PORT"
    )
