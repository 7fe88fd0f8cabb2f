"""Plays the challenge's scorer against any server: how good is it on which patients?

    python benchmarks/scorer.py --url http://127.0.0.1:8000 --data DIR
    python benchmarks/scorer.py --masks DIR --data DIR
    python benchmarks/scorer.py --compare before.csv after.csv

As the challenge says (DM-i-AI-2023, tumor-segmentation/README.md): the Sørensen-Dice coefficient of
each patient's image, averaged; 10 seconds for each image; an answer with other values than 0 and
255, other channels than three equal ones or another shape than the image's is refused. Here it is
scored 0. Dice of two empty masks, for which the challenge divides 0 by 0, is 1. The environment
variable API_KEY is the key of a server that wants one.

Exit codes: 0 all answers were good, 1 some were malformed, late or missing, 2 wrong usage (no data,
no server), 130 interrupted; what was scored until then is reported and written.
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

import numpy as np

from benchmarks.asking.model import Served
from benchmarks.running import program
from benchmarks.running.program import positive, prepare
from benchmarks.scoring import compare, gallery
from benchmarks.scoring.cases import Case, control_names, find_cases
from benchmarks.scoring.score import FolderSource, Result, ServerSource, score
from benchmarks.scoring.selection import in_fold, named_in, select
from benchmarks.scoring.summary import BASELINE_DICE, froc, summary, to_csv
from tumour_segmenter import client, files
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import counted
from tumour_segmenter.progress import bar


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scorer", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="base URL of the server, such as http://127.0.0.1:8000")
    what.add_argument("--masks", type=Path, metavar="DIR", help="saved masks to score instead")
    what.add_argument(
        "--compare", nargs=2, type=Path, metavar="CSV", help="two --per-image files: did it change?"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with patients/, controls/")
    parser.add_argument(
        "--only", metavar="FILE", help="only patients that this file names, or this one patient"
    )
    parser.add_argument(
        "--folds", type=Path, metavar="FILE", help="who is in which fold; goes with --fold"
    )
    parser.add_argument("--fold", type=int, metavar="N", help="only patients of this fold")
    parser.add_argument("--controls", action="store_true", help="controls too: are masks empty?")
    parser.add_argument(
        "--best",
        type=float,
        metavar="DICE",
        help="mean Dice of the challenge's best team as its leaderboard shows it, for the scaled "
        "score max(0, Dice - 0.2) / (best - 0.2)",
    )
    parser.add_argument(
        "--operating-point", metavar="NAME", help="ask for this one of those that GET /api lists"
    )
    parser.add_argument(
        "--froc", action="store_true", help="score each operating point: sensitivity by false ones"
    )
    parser.add_argument("--per-image", type=Path, metavar="FILE.csv", help="write one row a case")
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="write a page to look at")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where --compare draws")
    parser.add_argument(
        "--timeout",
        type=positive,
        default=client.TIMEOUT,
        metavar="S",
        help="default %(default)g s",
    )
    args = parser.parse_args(argv)
    if not args.compare and not args.data:
        parser.error("--data DIR is needed")
    if (args.folds is None) != (args.fold is None):
        parser.error("--folds FILE and --fold N go together")
    if args.best is not None and not BASELINE_DICE < args.best <= 1:
        parser.error(f"--best must be over the baseline's {BASELINE_DICE:g} and at most 1")
    if args.plot and not args.compare:
        parser.error("--plot goes with --compare")
    if (args.operating_point or args.froc) and args.url is None:
        parser.error("--operating-point and --froc go with --url")
    if args.froc and (args.operating_point or args.per_image or args.gallery):
        parser.error("--froc goes without --operating-point, --per-image and --gallery")
    return args


def selected(args: argparse.Namespace) -> list[Case]:
    """The cases to score; prints how many of them, and which files were ignored."""
    found, ignored = find_cases(args.data, args.controls)
    cases = found
    if args.only:
        cases = select(cases, named_in(args.only, found))
    if args.folds:
        cases = select(cases, in_fold(args.folds, args.fold, found, control_names(args.data)))
    if not any(case.group == "patient" for case in cases):
        raise UsageError("--only and --fold leave no patient")
    for group in dict.fromkeys(case.group for case in found):
        count, of = (sum(case.group == group for case in some) for some in (cases, found))
        print(f"scored        {count} of {counted(of, group)} in {args.data}")
    print(*ignored, sep="\n", end="\n" if ignored else "")
    return cases


def run(args: argparse.Namespace) -> int:
    """Score what `args` choose and write what they ask for; the exit code. Raises UsageError."""
    if args.compare:
        return compare.run(*args.compare, args.plot)
    outputs = [path for path in (args.per_image, args.gallery) if path]
    for path in outputs:
        prepare(path)
    url = client.check(args.url) if args.url is not None else ""
    cases = selected(args)
    inputs = [path for case in cases for path in (case.image, case.label) if path]
    inputs += [Path(path) for path in (args.folds, args.only) if path]
    if not url:
        saved = FolderSource(args.masks, cases)
        files.check_outputs([*inputs, *saved.masks.values()], outputs)
        return score_all(args, cases, saved, None)
    files.check_outputs(inputs, outputs)
    model = Served.at(url)
    print(f"model         {model}")
    if model.trained_on is None:
        print("              what it was trained on is not known: it may know these images")
    if args.froc:
        return score_points(args, cases, url, model)
    if args.operating_point:
        model.check_operating_point(args.operating_point)
    if point := args.operating_point or model.model.get("operating_point"):
        print(f"at            the operating point {point}")
    source = ServerSource(url, args.timeout, args.operating_point)
    return score_all(args, cases, source, model)


def score_all(
    args: argparse.Namespace,
    cases: list[Case],
    source: ServerSource | FolderSource,
    model: Served | None,
) -> int:
    """Score `cases` and report them, also those until an interruption; the exit code."""
    results: list[Result] = []
    code = 0
    try:
        with bar(cases, desc="scored", unit="images") as shown:
            for case in shown:
                results.append(score(case, source))
                mean = f"{np.mean([r.dice for r in results]):.3f}"
                shown.set_postfix(dice=mean, refresh=False)
    except KeyboardInterrupt:
        print(f"scorer: interrupted after {len(results)} of {len(cases)}", file=sys.stderr)
        code = 130
    finally:  # also when a broken data file ends the run: what was scored is kept
        if results:
            trained_on = model.trained_on if model else None
            if args.per_image:
                files.write(args.per_image, to_csv(results))
            if args.gallery:
                files.write(args.gallery, gallery.page(results, trained_on))
            print(summary(results, args.best, trained_on))
    return code or int(any(r.fault for r in results))


def score_points(args: argparse.Namespace, cases: list[Case], url: str, model: Served) -> int:
    """Score `cases` at each operating point and print the curve; the exit code."""
    if not model.operating_points:
        raise UsageError("--froc: the server offers no operating points")
    code, rows = 0, {}
    try:
        for name in model.operating_points:
            source = ServerSource(url, args.timeout, name)
            shown = bar(cases, desc=name, unit="images")
            rows[name] = [score(case, source) for case in shown]
            code |= any(result.fault for result in rows[name])
    finally:  # also when it is interrupted: points that are complete are kept
        if rows:
            print(froc(rows, model.trained_on))
    return int(code)


main = partial(program.main, "scorer", parse, run)


if __name__ == "__main__":
    sys.exit(main())
