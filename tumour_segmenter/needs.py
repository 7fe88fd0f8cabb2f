"""Packages that a part needs: one clear line where one is missing, in place of a traceback."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from tumour_segmenter.errors import UsageError

PROJECT = Path(__file__).resolve().parents[1]
# The make target that makes an environment with what a part needs, and its Python.
ENVIRONMENTS = {
    "train": ("dev-env", ".venv-dev/bin/python"),
    "benchmarks": ("bench-env", ".venv-bench/bin/python"),
}
SERVING = ("serve-env", ".venv/bin/python")


def how_to_install(extra: str) -> str:
    """Return how to get what `extra` ("serve", "scan", "train", ...) needs, as it works here."""
    if not (PROJECT / "pyproject.toml").is_file():
        return f"install it: {sys.executable} -m pip install 'tumour-segmenter[{extra}]'"
    if sys.prefix == sys.base_prefix:  # pip of the system may not install anything
        target, python = ENVIRONMENTS.get(extra, SERVING)
        return f"use {python}, which `make {target}` makes"
    requirements = PROJECT / f"requirements-{extra}.txt"
    return f"install it: {sys.executable} -m pip install -r {requirements}"


def require(extra: str, *packages: str) -> None:
    """Raise `UsageError` unless all packages, which are part of `extra`, are installed."""
    if missing := [name for name in packages if not find_spec(name)]:
        names = ", ".join(missing)
        raise UsageError(f"not installed in {sys.prefix}: {names}; {how_to_install(extra)}")


def check(extra: str, *packages: str) -> None:
    """End with exit code 2 and one line unless all packages are installed."""
    try:
        require(extra, *packages)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
