"""Packages that only scanning needs: one clear line where one is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tumour_segmenter.errors import UsageError

INSTALL = f"{sys.executable} -m pip install -r requirements-scan.txt"


def check(package: str, what_for: str) -> None:
    """Raise `UsageError` if `package` is not installed."""
    if find_spec(package) is None:
        raise UsageError(f"{what_for} needs the package {package}: {INSTALL}")
