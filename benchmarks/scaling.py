"""What bulk work costs: images a second by processes, and what the driver itself needs.

    python benchmarks/scaling.py                         1, 2 and 4 processes, 100,000 tiny tasks
    python benchmarks/scaling.py --processes 1 2 --tasks 1000

First the model that MODEL names (default: the shipped one) on the largest image of the challenge's
kind, 400×991, one thread a process, in rounds one after the other so that a slow minute meets all.
Then `python -m tumour_segmenter predict` with the baseline on images of one pixel: there is next to
nothing to compute, so the time is that of the driver; its memory is sampled meanwhile. The files
lie in memory where there is room (/dev/shm): how long a disk takes to hold each mask safely is its
own matter.

Exit codes: 0 measured, 2 wrong usage or something failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import benchmarks  # noqa: F401  one line where the environment lacks something

# isort: split

import numpy as np

from benchmarks.host import hostinfo
from benchmarks.host.server import cpu_seconds, resident_mb
from benchmarks.running import program
from benchmarks.running.program import ROOT, add_results_options, results_folder, whole
from tumour_segmenter import contract, files
from tumour_segmenter.cli import batch
from tumour_segmenter.cli.tasks import make_tasks
from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.errors import UsageError
from tumour_segmenter.phantom import phantom
from tumour_segmenter.png import MAX_PIXELS
from tumour_segmenter.settings import named_model

LARGEST = (991, 400)
MEMORY, BLOCK = "/dev/shm", 4096
SAMPLES = 200  # of the driver's memory, at least so many where it runs for long


def throughput(folder: Path, processes: list[int], images: int, rounds: int) -> list[dict]:
    """Return a row for each number of processes: images a second of each round, and efficiency.

    Measured from the first image of the slowest process on, so that opening the model, which is
    paid once, is not in it.
    """
    pixels, _ = phantom(height=LARGEST[0], width=LARGEST[1])
    source = folder / "images"
    source.mkdir()
    data = contract.encode_png(pixels)
    most = max(processes)
    names = [source / f"{number:05d}.png" for number in range(images + 2 * most)]
    for name in names:
        name.write_bytes(data)
    found: dict[int, list[float]] = {count: [] for count in processes}
    for number in range(rounds):
        for count in processes:
            plan = batch.Plan(named_model(), 1, MAX_PIXELS)
            out = folder / f"masks-{count}-{number}"
            out.mkdir()
            tasks = make_tasks(names[: images + 2 * count], out, overlay=False)
            found[count].append(rate(tasks, plan, count))
    one = median(found[processes[0]]) / processes[0]
    cores = available_cpus()
    return [
        {
            "processes": count,
            "images_a_second": [round(value, 3) for value in rates],
            "median": round(median(rates), 3),
            # Of what the cores could do that these processes had.
            "efficiency": round(median(rates) / (one * min(count, cores)), 3),
        }
        for count, rates in found.items()
    ]


def rate(tasks: list, plan: batch.Plan, count: int) -> float:
    """Return images a second by `count` processes, once all of them are warm."""
    done, began = 0, 0.0
    with closing(batch.outcomes(tasks, plan, batch.identify(plan), count)) as outcomes:
        for outcome in outcomes:
            if outcome.fault:
                raise UsageError(f"an image failed: {outcome.fault}")
            done += 1
            if done == 2 * count:
                began = time.perf_counter()
    return (done - 2 * count) / (time.perf_counter() - began)


def driver(folder: Path, count: int, jobs: int) -> dict:
    """Return what `python -m tumour_segmenter predict` needs for `count` images of one pixel."""
    source, out = folder / "tiny", folder / "tiny-masks"
    source.mkdir()
    data = contract.encode_png(np.zeros((1, 1), np.uint8))
    for number in range(count):
        (source / f"{number:07d}.png").write_bytes(data)
    command = [sys.executable, "-m", "tumour_segmenter", "predict", source, "--out", out]
    command += ["--jobs", str(jobs), "--csv", folder / "tiny.csv"]
    environ = os.environ | {"MODEL": "baseline"}
    begin = time.perf_counter()
    memory: list[tuple[float, float]] = []
    used = 0.0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                try:
                    mb, used = resident_mb(process.pid), cpu_seconds(process.pid)
                except (OSError, IndexError):  # it ended just now
                    break
                memory.append((time.perf_counter() - begin, mb))
                time.sleep(min(0.5, max(0.02, memory[-1][0] / SAMPLES)))
            code = process.wait()
        except BaseException:  # what we started must not outlive us
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - begin
        if code:
            log.seek(0)
            raise UsageError(f"predict ended with {code}: {log.read().decode()[-300:]}")
    values = [mb for _, mb in memory if mb] or [0.0]
    return {
        "tasks": count,
        "processes": jobs,
        "seconds": round(seconds, 2),
        "tasks_a_second": round(count / seconds, 1),
        # Of the driver alone, as the processes with the model are its children.
        "driver_cpu_seconds": round(used, 2),
        "driver_cpu_us_a_task": round(1e6 * used / count, 1),
        "memory_mb": [[round(at, 2), round(mb, 1)] for at, mb in memory if mb],
        "memory_mb_half_way": round(values[len(values) // 2], 1),
        "memory_mb_most": round(max(values), 1),
    }


def table(result: dict) -> str:
    """Return what was measured as Markdown."""
    lines = ["| processes | images/s | efficiency |", "|---:|---:|---:|"]
    for row in result["throughput"]:
        rates = row["images_a_second"]
        spread = f" ({min(rates):.1f} to {max(rates):.1f})" if len(rates) > 1 else ""
        shown = f"{row['median']:.1f}{spread}"
        lines.append(f"| {row['processes']} | {shown} | {100 * row['efficiency']:.0f} % |")
    tiny = result["driver"]
    lines += [
        "",
        f"driver: {tiny['tasks']:,} tasks of one pixel in {tiny['seconds']:.0f} s "
        f"({tiny['tasks_a_second']:.0f} a second by {tiny['processes']} processes), of which the "
        f"driver's own CPU {tiny['driver_cpu_seconds']:.1f} s "
        f"({tiny['driver_cpu_us_a_task']:.0f} µs a task); its memory half way "
        f"{tiny['memory_mb_half_way']:.0f} MB, at most {tiny['memory_mb_most']:.0f} MB",
    ]
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.split("\n")[0])
    number = {"type": whole, "metavar": "N"}
    parser.add_argument(
        "--processes", nargs="+", default=[1, 2, 4], **number, help="to compare, default 1 2 4"
    )
    parser.add_argument("--images", default=100, **number, help="in each round, default 100")
    parser.add_argument("--rounds", default=3, **number, help="of each number, default 3")
    parser.add_argument("--tasks", default=100_000, **number, help="for the driver, default 100000")
    add_results_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    host = hostinfo.facts()
    now = program.now()
    path = results_folder(args) / f"scaling-{hostinfo.hardware(host)}-{now}.json"
    processes = sorted(set(args.processes))
    with tempfile.TemporaryDirectory(dir=place(args.tasks)) as folder:
        result = {
            "date": now,
            "host": host,
            "files_in_memory": folder.startswith(MEMORY),
            "throughput": throughput(Path(folder), processes, args.images, args.rounds),
            "driver": driver(Path(folder), args.tasks, available_cpus()),
        }
    files.write_json(path, result)
    print(table(result))
    print("written:", path)
    return 0


def place(tasks: int) -> str | None:
    """Return the folder in memory if `tasks` images and masks fit into half of it, else None."""
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return None
    return MEMORY if os.access(MEMORY, os.W_OK) and free > 2 * tasks * 2 * BLOCK else None


main = partial(program.main, "scaling", parse, run)


if __name__ == "__main__":
    sys.exit(main())
