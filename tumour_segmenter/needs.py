"""Packages that a command needs: one clear line where one is missing, in place of a traceback."""

from __future__ import annotations

import sys
from importlib.util import find_spec

SERVING = (".venv/bin/python", "serve", "numpy", "PIL", "flask", "onnxruntime")


def check(python: str, target: str, *packages: str) -> None:
    """End with exit code 2 unless all packages are installed; `make target` makes that `python`."""
    if missing := [name for name in packages if not find_spec(name)]:
        names = ", ".join(missing)
        how = f"use {python}, which `make {target}` makes"
        print(f"error: not installed in {sys.prefix}: {names}; {how}", file=sys.stderr)
        sys.exit(2)
