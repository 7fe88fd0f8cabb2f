"""Is the server fast enough to deploy? Measures it from outside.

    python benchmarks/latency.py            under 3 minutes
    python benchmarks/latency.py --quick    under 30 seconds
    python benchmarks/latency.py --cpus 0.5 --compare runs/benchmarks/earlier.json

Starts the server as the container does (or takes `--url`), checks its answers, then measures images
of 400×426, 400×489 and 400×991 pixels, one pixel and one too large. Every timed answer is checked
as well. Writes JSON, a table and a plot, named after model, hardware and date. The environment
variables choose the model (MODEL) and the key of a server that wants one (API_KEY).

Exit codes: 0 check passed; 1 check failed: an answer was wrong, an image took longer than
`--budget` alone or `--budget-at-once` with others at once, or the run given by `--compare` was
faster by more than noise; 2 wrong usage or a server that does not start; 3 inconclusive: it was
slow, but so was the machine, so run again when it is idle; 130 interrupted, nothing written.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import benchmarks  # noqa: F401  one line where the environment lacks something

# isort: split

from tqdm import tqdm

from benchmarks.host import hostinfo
from benchmarks.host.limits import limited
from benchmarks.host.server import Server
from benchmarks.running import program
from benchmarks.running.program import add_results_options, positive, results_folder
from benchmarks.timing import check, report
from benchmarks.timing.measure import FULL, QUICK, Plan, first_answer, measure, steps
from tumour_segmenter import client
from tumour_segmenter.progress import bar, describe

INCONCLUSIVE = 3


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="latency", description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="measure this server instead of starting one")
    parser.add_argument("--quick", action="store_true", help="a rougher look, under 30 seconds")
    parser.add_argument(
        "--cpus", type=positive, metavar="N", help="let the server use 1, 0.5, ... CPUs"
    )
    parser.add_argument(
        "--budget",
        type=positive,
        default=1.0,
        metavar="S",
        help="a lone image, default %(default)g s",
    )
    parser.add_argument(
        "--budget-at-once",
        type=positive,
        default=5.0,
        metavar="S",
        help="an image with others at once, up to 16, default %(default)g s",
    )
    parser.add_argument("--compare", type=Path, metavar="FILE.json", help="must not be slower than")
    add_results_options(parser)
    args = parser.parse_args(argv)
    if args.url is not None and args.cpus is not None:
        parser.error("--cpus limits a server that is started here, so it cannot go with --url")
    return args


def measure_own(plan: Plan, cpus: float | None) -> dict:
    """Starts the server as often as the plan says, measures the last one. Raises UsageError."""
    ready, first = [], []
    with limited(cpus) as limits, progress(plan, own=True) as shown:
        for number in range(plan.starts):
            describe(shown, "start")
            with Server(limits) as server:
                ready.append(round(server.ready_s, 3))
                first.append(round(1000 * first_answer(server.url), 2))
                shown.update()
                if number == plan.starts - 1:
                    result = measure(plan, server.url, server, shown)
    return result | {
        "limits": limits.description,
        "cold_start": {"ready_s": ready, "first_answer_ms": first},
    }


def measure_url(plan: Plan, url: str) -> dict:
    with progress(plan, own=False) as shown:
        result = measure(plan, client.check(url), None, shown)
    return result | {"limits": "not started here", "cold_start": None}


def progress(plan: Plan, own: bool) -> tqdm:
    total = steps(plan, own) + plan.starts * own
    return bar(total=total, desc="start" if own else "answers", unit="steps")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print the verdict; the exit code. Raises UsageError, WrongAnswer."""
    plan = QUICK if args.quick else FULL
    earlier = check.read(args.compare) if args.compare else None
    out = results_folder(args)
    facts = {
        "date": program.now(),
        "host": hostinfo.facts(),
        "budget_s": args.budget,
        "budget_at_once_s": args.budget_at_once,
        "cpus": args.cpus,
    }
    busy = [hostinfo.busy_share(plan.idle_s)]
    measured = measure_url(plan, args.url) if args.url is not None else measure_own(plan, args.cpus)
    busy.append(hostinfo.busy_share(plan.idle_s))
    result = facts | measured | {"busy_share": max(busy)}
    written = report.write(result, out)

    print(report.markdown(result))
    print("written:", *written)
    if earlier and not check.comparable(result, earlier):
        print(f"note: {args.compare} was measured on other hardware or under other limits")
    verdict = check.verdict(result, earlier)
    for reason in verdict.failed:
        print(f"FAILED  {reason}")
    for reason in verdict.unsure:
        print(f"unsure  {reason}")
    print(verdict)
    return 1 if verdict.failed else INCONCLUSIVE if verdict.unsure else 0


main = partial(program.main, "latency", parse, run)


if __name__ == "__main__":
    sys.exit(main())
