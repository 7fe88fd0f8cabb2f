"""Does the server stay as small and as fast as it was? Asks it about images of all sizes for long.

    python benchmarks/soak.py                an hour
    python benchmarks/soak.py --minutes 5
    python benchmarks/soak.py --rate 2      beside other work

Starts the server as the container does, without recycling of workers, on loopback. Samples memory
and latency, fits a line through the memory after a first tenth in which caches fill, and writes
JSON and a plot. What it says about a day is an extrapolation.

Exit codes: 0 no image was lost and memory does not grow by more than `--growth` a day, 1 otherwise,
2 wrong usage or a server that does not start, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from itertools import cycle
from pathlib import Path

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import benchmarks  # noqa: F401  one line where the environment lacks something

# isort: split

import numpy as np

from benchmarks.asking.load import Answer, Load
from benchmarks.asking.question import Question, learn
from benchmarks.host import hostinfo
from benchmarks.host.limits import Limits
from benchmarks.host.server import Server
from benchmarks.running import program
from benchmarks.running.program import add_results_options, positive, results_folder
from benchmarks.running.statistics import percentile
from tumour_segmenter import files
from tumour_segmenter.phantom import phantom
from tumour_segmenter.progress import bar

CLIENTS = 3
TIMEOUT = 20.0  # seconds; above the server's limit, so that it is seen where that is exceeded
SIZES = 60
SAMPLES = 120  # of memory, over the whole time
STRETCHES = 30  # of time, each with its own percentiles
SETTLED = 0.1  # the share of the time after which memory is expected to stay


def mixed_sizes(url: str) -> list[Question]:
    """Questions about images of one pixel up to the challenge's largest, and some far larger."""
    random = np.random.default_rng(0)
    whole, _ = phantom(991, 400)
    shapes = [tuple(random.integers(1, np.array(whole.shape) + 1)) for _ in range(SIZES)]
    crops = [whole[:height, :width] for height, width in [*shapes, (1, 1), whole.shape]]
    return [learn(url, crop) for crop in [*crops, np.tile(whole, (2, 3))]]


def soak(seconds: float, rate: float | None) -> dict:
    """Ask for that long, `rate` images a second; everything that was seen, as JSON values."""
    limits = Limits(frozenset(os.sched_getaffinity(0)), None, "")
    with Server(limits) as server:
        first = server.workers()
        questions = mixed_sizes(server.url)
        start = time.perf_counter()
        memory = []
        with Load(server.url, cycle(questions), CLIENTS, rate, TIMEOUT) as asked:
            for number in bar(range(1, SAMPLES + 1), desc="memory", unit="samples"):
                time.sleep(max(0.0, start + number * seconds / SAMPLES - time.perf_counter()))
                memory.append((round(time.perf_counter() - start, 1), sum(server.memory_mb())))
        same = server.workers() == first
    return {
        "minutes": round(seconds / 60, 2),
        "images_per_s_asked": rate,
        "same_workers": same,
        "outcomes": asked.report(),
        "memory_mb": [(at, round(mb, 2)) for at, mb in memory],
        "latency_ms": latency(asked.of("mask"), start, seconds),
        "growth": growth(memory),
    }


def latency(answers: list[Answer], start: float, seconds: float) -> list[dict]:
    """Percentiles of the answers that came in each stretch of time."""
    rows = []
    for number in range(STRETCHES):
        begin, end = (start + n * seconds / STRETCHES for n in (number, number + 1))
        took = [1000 * answer.seconds for answer in answers if begin <= answer.ended < end]
        if took:
            row = {f"p{q}": round(percentile(took, q), 1) for q in (50, 99)}
            rows.append({"minute": round((begin - start) / 60, 2), "answers": len(took)} | row)
    return rows


def growth(memory: list[tuple[float, float]]) -> dict:
    """The line through (seconds, MB) after the settling, and what it would mean for a day."""
    settled = np.array([m for m in memory if m[0] >= SETTLED * memory[-1][0]])
    slope, level = np.polyfit(settled[:, 0], settled[:, 1], 1)
    scatter = np.std(settled[:, 1] - np.polyval((slope, level), settled[:, 0]))
    error = scatter / (np.std(settled[:, 0]) * np.sqrt(len(settled))) if len(settled) > 2 else 0.0
    return {
        "mb_per_hour": round(3600 * slope, 3),
        "mb_per_hour_standard_error": round(3600 * error, 3),
        "mb_per_day_extrapolated": round(86_400 * slope, 1),
        "at_start_mb": round(level, 1),
    }


def plot(result: dict, path: Path) -> None:
    """Memory and latency over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    minutes, mb = zip(*[(at / 60, mb) for at, mb in result["memory_mb"]], strict=True)
    grown = result["growth"]
    above.plot(minutes, mb, label="measured")
    above.plot(
        minutes,
        [grown["at_start_mb"] + grown["mb_per_hour"] * minute / 60 for minute in minutes],
        "--",
        label=f"{grown['mb_per_hour']:+.2f} ± {grown['mb_per_hour_standard_error']:.2f} MB an hour",
    )
    above.set(ylabel="memory of all workers, MB", ylim=(0, 1.2 * max(mb)))
    above.set_title(
        f"{result['outcomes']['mask']} images of mixed sizes; a day, extrapolated: "
        f"{grown['mb_per_day_extrapolated']:+.0f} MB"
    )
    for q in ("p50", "p99"):
        points = [(row["minute"], row[q]) for row in result["latency_ms"]]
        below.step(*zip(*points, strict=True), where="post", label=q)
    below.set(xlabel="minutes", ylabel="latency, ms", ylim=(0, None))
    for axes in (above, below):
        axes.legend()
        axes.grid(alpha=0.3)
    with files.replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=positive, default=60.0, metavar="N", help="default 60")
    parser.add_argument(
        "--rate", type=positive, metavar="N", help="images a second; default: as fast as they come"
    )
    parser.add_argument(
        "--growth", type=positive, default=100.0, metavar="MB", help="allowed a day, default 100"
    )
    add_results_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    host = hostinfo.facts()
    now = program.now()
    path = results_folder(args) / f"soak-{hostinfo.hardware(host)}-{now}.json"
    result = {"date": now, "host": host} | soak(60 * args.minutes, args.rate)
    files.write_json(path, result)
    plot(result, path.with_suffix(".png"))

    grown, outcomes = result["growth"], result["outcomes"]
    print(f"images        {outcomes['mask']}, {outcomes['lost']} lost, {outcomes['busy']} busy")
    print(f"latency, ms   {outcomes['mask_ms']}")
    print(
        f"memory        {grown['at_start_mb']:.0f} MB, {grown['mb_per_hour']:+.2f} ± "
        f"{grown['mb_per_hour_standard_error']:.2f} MB an hour"
    )
    print(f"a day         {grown['mb_per_day_extrapolated']:+.0f} MB, extrapolated, not measured")
    print("written:", path, path.with_suffix(".png"))
    # Beyond what the scatter of a short run explains.
    least = 24 * (grown["mb_per_hour"] - 2 * grown["mb_per_hour_standard_error"])
    good = not outcomes["lost"] and result["same_workers"] and least <= args.growth
    print(
        "check passed" if good else "check failed: it lost images or workers, or its memory grows"
    )
    return int(not good)


main = partial(program.main, "soak", parse, run)


if __name__ == "__main__":
    sys.exit(main())
