"""Looks for input that the server does not know how to refuse, for as long as it is given.

    pip install schemathesis atheris
    python benchmarks/fuzz.py --minutes 60

Half of the time schemathesis asks a server of ours everything that its openapi.json allows and
forbids, half of the time atheris changes PNGs that the decoder gets. What is found is printed with
the input that shows it; inputs that the decoder trips over are kept in --out.

Exit codes: 0 nothing was found, 1 something was, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from benchmarks.common import UsageError
from benchmarks.limits import Limits
from benchmarks.server import ROOT, Server
from serve.phantom import phantom

# A mask is asked for with images that a schema cannot describe, so valid ones may be refused.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
]


def fuzz_api(seconds: int) -> bool:
    """Ask a server; whether all its answers were as described, and its workers lived."""
    with Server(Limits(frozenset(os.sched_getaffinity(0)), None, "")) as server:
        before = server.workers()
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        command += ["--checks", ",".join(CHECKS), "--max-time", str(seconds)]
        command += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]
        with tempfile.TemporaryDirectory() as own:  # it keeps a folder where it runs
            good = subprocess.run(command, cwd=own).returncode == 0
        crashes = [line for line in server.log() if line.startswith("Traceback")]
        alive = server.workers() == before
    print(f"API: {len(crashes)} tracebacks, workers {'lived' if alive else 'DIED'}", flush=True)
    return good and alive and not crashes


def fuzz_decoder(seconds: int, out: Path) -> bool:
    """Feed the decoder; whether it never did anything but decode or refuse."""
    with tempfile.TemporaryDirectory() as corpus:
        for name, image in seeds().items():
            image.save(Path(corpus) / f"{name}.png", "PNG")
        command = [sys.executable, str(ROOT / "benchmarks" / "fuzz_decoder.py"), corpus]
        command += [
            f"-max_total_time={seconds}",
            "-max_len=20000",
            "-timeout=5",
            "-rss_limit_mb=1024",
        ]
        command += [f"-artifact_prefix={out}/", "-print_final_stats=1", "-verbosity=0"]
        run = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    tried = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    print(f"decoder: {tried[1] if tried else '?'} inputs, exit code {run.returncode}")
    if run.returncode:
        print(run.stderr[-3000:])
    return run.returncode == 0


def seeds() -> dict[str, Image.Image]:
    """Small images of every mode, to start from."""
    grey = Image.fromarray(phantom(40, 30)[0])
    modes = {mode: grey.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16")}
    return {name.replace(";", ""): image for name, image in modes.items()}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, metavar="N", help="default 5")
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR", help="for inputs"
    )
    args = parser.parse_args(argv)
    if args.minutes <= 0:
        parser.error("--minutes must be over 0")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    missing = [name for name in ("schemathesis", "atheris") if not find_spec(name)]
    if missing:
        print(f"fuzz: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    seconds = max(5, round(30 * args.minutes))
    try:
        good = [fuzz_api(seconds), fuzz_decoder(seconds, args.out)]
    except UsageError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return 2
    print("nothing was found" if all(good) else "something was FOUND, see above")
    return int(not all(good))


if __name__ == "__main__":
    # A job that runs out of time is terminated: the server that we started must not outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
