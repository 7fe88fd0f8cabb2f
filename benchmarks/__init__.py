"""Measures a running server from outside: how right it is (scorer) and how fast (latency)."""

import sys
from importlib.util import find_spec

# One line in place of a traceback: the environment that serves has not all that measures.
if missing := [name for name in ("numpy", "PIL", "scipy", "tqdm") if not find_spec(name)]:
    print(
        f"error: not installed in {sys.prefix}: {', '.join(missing)}; use the development "
        "environment, .venv-dev/bin/python, which `make lint` makes",
        file=sys.stderr,
    )
    sys.exit(2)
