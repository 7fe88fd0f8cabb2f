"""Is the server faster than others that serve the same model file?

    python benchmarks/peers.py              some 5 minutes, on a machine that does nothing else
    python benchmarks/peers.py --quick      a minute, to see that it works

Installs FastAPI, uvicorn and LitServe with OpenCV in a temporary environment, and serves the same
file with the same number of workers, one thread each, by each of them and by ours, one after the
other, in several rounds. Prints the medians of the rounds as a table.

Exit codes: 0 check passed: ours is at least --times as fast as the better peer in every column;
1 check failed; 2 wrong usage, or a server that does not start; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import benchmarks  # noqa: F401  one line where the environment lacks something

# isort: split

from benchmarks.asking import load
from benchmarks.asking.question import learn
from benchmarks.host.limits import Limits
from benchmarks.host.server import PATIENCE, Server
from benchmarks.running import program
from benchmarks.running.program import WrongAnswer, positive, whole
from benchmarks.running.statistics import percentile
from tumour_segmenter import client
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import counted
from tumour_segmenter.model_file import model_path
from tumour_segmenter.phantom import phantom
from tumour_segmenter.settings import named_model

OURS, FASTAPI, LITSERVE = "ours", "FastAPI + uvicorn", "LitServe"
PACKAGES = ["fastapi", "uvicorn", "litserve", "opencv-python-headless"]
SERVERS = Path(__file__).resolve().parent / "peer_servers"
# Height of the image, clients at once, and whether the figure is the p50 of one or images a second.
COLUMNS = [(991, 1, True), (426, 16, False), (991, 4, False), (991, 16, False)]
VARIANTS = 4  # images of each size, so that no cache can know the answer


def install(folder: Path) -> Path:
    """The bin folder of an environment with the peers, and our versions of what they share.

    Raises UsageError.
    """
    shared = [f"{name}=={version(name)}" for name in ("numpy", "onnxruntime")]
    bin_folder = folder / "bin"
    if not (bin_folder / "uvicorn").exists():
        pip = [bin_folder / "python", "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([*pip, *PACKAGES, *shared], check=True)
        except subprocess.CalledProcessError as error:
            raise UsageError(f"the peers cannot be installed: {error}") from error
    return bin_folder


@contextmanager
def peer(name: str, bin_folder: Path, workers: int) -> Iterator[str]:
    """The address of a peer that serves the model. Raises UsageError if it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    if name == FASTAPI:
        command = [bin_folder / "uvicorn", "--app-dir", SERVERS, "--port", str(port)]
        command += ["--workers", str(workers), "--no-access-log", "fastapi_server:app"]
    else:
        command = [bin_folder / "python", SERVERS / "litserve_server.py"]
    variables = {"MODEL": os.fspath(model_path(named_model())), "WORKERS": str(workers)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=os.environ | variables | {"PORT": str(port)},
            stdout=log,
            stderr=log,
            start_new_session=True,  # with its workers
        )
        try:
            wait_until_ready(url, process, log)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # only what we started
            process.wait()


def wait_until_ready(url: str, process: subprocess.Popen, log) -> None:
    body = client.request_body(phantom(16, 400)[0])
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.ask(url, "/predict", body, 5).status == 200:
                return
        except client.Unanswered:
            time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines() or ["it wrote nothing"]
    raise UsageError(f"a peer does not start: {lines[-1]}")


def figures(url: str, seconds: float) -> list[float]:
    """One figure for each column, after as long a warm-up; raises WrongAnswer."""
    questions = {
        height: [learn(url, phantom(height, 400, seed=seed)[0]) for seed in range(VARIANTS)]
        for height in {height for height, _, _ in COLUMNS}
    }
    found = []
    for height, clients, alone in COLUMNS:
        load.closed(url, questions[height], clients, seconds / 4, client.TIMEOUT)
        window = load.closed(url, questions[height], clients, seconds, client.TIMEOUT)
        if faults := [answer.fault for answer in window.answers if answer.fault]:
            raise WrongAnswer(f"400×{height}, {clients} clients: {faults[0]}")
        if alone:
            found.append(1000 * percentile([a.seconds for a in window.answers], 50))
        else:
            found.append(len(window.answers) / window.seconds)
    return found


def measure(bin_folder: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    """The medians of all rounds for each server."""
    cores = os.sched_getaffinity(0)
    workers = int(os.environ.get("WORKERS") or len(cores))
    seen: dict[str, list[list[float]]] = {OURS: [], FASTAPI: [], LITSERVE: []}
    for number in range(rounds):
        for name, rows in seen.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            with ExitStack() as stack:
                if name == OURS:
                    limits = Limits(frozenset(cores), None, "")
                    ours = Server(limits, WORKERS=str(workers), THREADS="1")
                    url = stack.enter_context(ours).url
                else:
                    url = stack.enter_context(peer(name, bin_folder, workers))
                rows.append(figures(url, seconds))
    return {name: [median(row) for row in zip(*rows, strict=True)] for name, rows in seen.items()}


def table(measured: dict[str, list[float]]) -> str:
    """Markdown; the last row is how many times ours is as fast as the better peer."""
    heads = [
        f"400×{height}, {counted(clients, 'client')}, {'p50 ms' if alone else 'images/s'}"
        for height, clients, alone in COLUMNS
    ]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, row in measured.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    ratios = " | ".join(f"{ratio:.2f}" for ratio in times_as_fast(measured))
    return "\n".join([*lines, f"| ours / better peer | {ratios} |"])


def times_as_fast(measured: dict[str, list[float]]) -> list[float]:
    """Ours compared with the better peer in each column; over 1 is faster."""
    ratios = []
    for number, (_, _, alone) in enumerate(COLUMNS):
        ours, *peers = (measured[name][number] for name in (OURS, FASTAPI, LITSERVE))
        ratios.append(min(peers) / ours if alone else ours / max(peers))
    return ratios


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--rounds", type=whole, metavar="N", help="default 3")
    parser.add_argument(
        "--times", type=positive, default=1.1, metavar="X", help="as fast as peers, default 1.1"
    )
    parser.add_argument(
        "--environment", type=Path, metavar="DIR", help="of the peers, made if it is not there"
    )
    args = parser.parse_args(argv)
    if args.rounds is None:
        args.rounds = 1 if args.quick else 3
    return args


def run(args: argparse.Namespace) -> int:
    if not model_path(named_model()):
        raise UsageError("MODEL=baseline is no file that the peers could serve")
    with tempfile.TemporaryDirectory() as folder:
        bin_folder = install(args.environment or Path(folder) / "peers")
        measured = measure(bin_folder, args.rounds, 1.0 if args.quick else 5.0)
    print(table(measured))
    passed = min(times_as_fast(measured)) >= args.times
    print(f"check {'passed' if passed else 'failed'}: {args.times:g} times the better peer")
    return int(not passed)


main = partial(program.main, "peers", parse, run)


if __name__ == "__main__":
    sys.exit(main())
