"""Plays the challenge's scorer against any server: how good is it on which patients?

    python benchmarks/scorer.py --url http://127.0.0.1:8000 --data DIR
    python benchmarks/scorer.py --masks DIR --data DIR
    python benchmarks/scorer.py --compare before.csv after.csv

As the challenge says (DM-i-AI-2023, tumor-segmentation/README.md): the Sørensen-Dice coefficient of
each patient's image, averaged; 10 seconds for each image; an answer with other values than 0 and
255, other channels than three equal ones or another shape than the image's is refused. Here it is
scored 0. Dice of two empty masks, for which the challenge divides 0 by 0, is 1.

The scaled score: the challenge publishes no formula. Its README only says that "the individual
score reflects the placement your best model has achieved relative to the other participants'
models". We read this as mean Dice / best mean Dice, with `--best` the best that is known.

Exit codes: 0 all answers were good, 1 some were malformed, late or missing, 2 wrong usage (no data,
no server), 130 interrupted; what was scored until then is reported and written.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from time import perf_counter

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks import client, compare, gallery
from benchmarks.cases import Case, choose, find_cases, in_fold, listed
from benchmarks.common import UsageError, percentile, prepare, write_whole
from benchmarks.lost import Lost, lost
from serve import contract


@dataclass(frozen=True)
class Result:
    """How one case went: Dice in [0, 1], areas in pixels, `fault` empty when the answer was good.

    `lost` says what to. `mask` is uint8 H×W of 0 and 255, all 0 when there was no good answer.
    """

    case: Case
    dice: float
    lost: Lost
    truth_pixels: int
    mask_pixels: int
    seconds: float
    fault: str
    mask: np.ndarray


class ServerSource:
    """Masks from a server, asked as the challenge asks it."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.timeout = client.check_url(url), timeout

    def __call__(self, case: Case, image: Image.Image) -> tuple[np.ndarray, float]:
        """(mask, seconds); raises client.Unanswered, client.Malformed."""
        reply = client.ask(self.url, "/predict", client.request_body(image), self.timeout)
        return client.read_mask(reply, (image.height, image.width)), reply.seconds


class FolderSource:
    """Masks saved as patient_NNN.png or segmentation_NNN.png, in any mode a PNG may have."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder of masks")
        self.folder = folder

    def __call__(self, case: Case, image: Image.Image) -> tuple[np.ndarray, float]:
        """(mask, 0); raises client.Unanswered, client.Malformed."""
        for name in (case.name, case.name.replace("patient", "segmentation")):
            path = self.folder / f"{name}.png"
            if path.is_file():
                try:
                    with Image.open(path) as saved:
                        mask = np.asarray(saved.convert("RGB"))
                    contract.check_mask(mask, (image.height, image.width))
                except (OSError, ValueError, SyntaxError) as error:
                    raise client.Malformed(f"{path.name}: {error}") from error
                return mask[..., 0], 0.0
        raise client.Unanswered(f"no mask {case.name}.png")


def score(case: Case, source: ServerSource | FolderSource) -> Result:
    """Asks for the mask of one case and judges it; a fault is no exception but a Dice of 0."""
    image, truth = case.read()
    start = perf_counter()
    try:
        mask, seconds = source(case, image)
        dice, fault = contract.dice(truth, mask), ""
    except (client.Unanswered, client.Malformed) as error:
        kind = {client.Late: "late", client.Malformed: "malformed"}.get(type(error), "no answer")
        mask, seconds = np.zeros_like(truth), perf_counter() - start
        dice, fault = 0.0, f"{kind}: {error}"
    truth_pixels, mask_pixels = np.count_nonzero(truth), np.count_nonzero(mask)
    parts = lost(truth, mask)
    return Result(case, dice, parts, truth_pixels, mask_pixels, seconds, fault, mask)


def summary(results: list[Result], best: float | None = None, worst: int = 5) -> str:
    """The lines that a person reads: worst cases, then Dice, time and faults."""
    patients = sorted((r for r in results if r.case.group == "patient"), key=lambda r: r.dice)
    controls = [r for r in results if r.case.group == "control"]
    lines = [f"{'case':<14}{'dice':>7}{'truth px':>10}{'mask px':>10}{'ms':>8}  fault"]
    lines += [
        f"{r.case.name:<14}{r.dice:7.3f}{r.truth_pixels:10d}{r.mask_pixels:10d}"
        f"{1000 * r.seconds:8.0f}  {r.fault}".rstrip()
        for r in patients[:worst]
    ]
    if len(patients) > worst:
        lines.append(f"... and {len(patients) - worst} better ones")
    lines.append("")
    if patients:
        scores = [r.dice for r in patients]
        low = sum(value < 0.1 for value in scores)
        lines.append(f"mean Dice     {np.mean(scores):.4f}  over {len(scores)} patients")
        lines.append(f"median Dice   {np.median(scores):.4f}")
        missed, false, outlines = np.mean([astuple(r.lost) for r in patients], axis=0)
        lines.append(
            f"lost to       missed lesions {missed:.4f}, false ones {false:.4f}, "
            f"outlines {outlines:.4f}"
        )
        lines.append(f"Dice < 0.1    {low / len(scores):.1%}  ({low})")
        if best:
            lines.append(f"scaled score  {np.mean(scores) / best:.4f}  of the best known, {best:g}")
    if controls:
        empty = sum(not r.fault and r.mask_pixels == 0 for r in controls)
        lines.append(f"empty masks   {empty / len(controls):.1%}  of {len(controls)} controls")
    times = [1000 * r.seconds for r in results]
    if any(times):
        p50, p99 = percentile(times, 50), percentile(times, 99)
        lines.append(f"time, ms      median {p50:.0f}, p99 {p99:.0f}, max {max(times):.0f}")
    faults = [r for r in results if r.fault]
    lines.append(f"faults        {len(faults)}")
    lines += [f"  {r.case.name}: {r.fault}" for r in faults[:worst]]
    return "\n".join(lines)


def to_csv(results: list[Result]) -> str:
    """One row per case; `dice` as compare.py reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    lost_to = [f"lost_to_{field.name}" for field in fields(Lost)]
    areas = ["truth_pixels", "mask_pixels"]
    writer.writerow(["case", "group", "dice", *lost_to, *areas, "ms", "fault"])
    for r in results:
        shares = [f"{share:.6f}" for share in (r.dice, *astuple(r.lost))]
        row = [r.case.name, r.case.group, *shares, r.truth_pixels, r.mask_pixels]
        writer.writerow([*row, f"{1000 * r.seconds:.1f}", r.fault])
    return text.getvalue()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scorer", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="server to score, such as http://127.0.0.1:8000")
    what.add_argument("--masks", type=Path, metavar="DIR", help="saved masks to score instead")
    what.add_argument(
        "--compare", nargs=2, type=Path, metavar="CSV", help="two --per-image files: did it change?"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with patients/, controls/")
    parser.add_argument("--only", type=Path, metavar="FILE", help="only patients this file names")
    parser.add_argument(
        "--folds", type=Path, metavar="FILE", help="a run's folds.json; with --fold"
    )
    parser.add_argument("--fold", type=int, metavar="N", help="only patients of this fold")
    parser.add_argument("--controls", action="store_true", help="controls too: are masks empty?")
    parser.add_argument("--best", type=float, metavar="DICE", help="best mean Dice known, to scale")
    parser.add_argument("--per-image", type=Path, metavar="FILE.csv", help="write one row a case")
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="write a page to look at")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where --compare draws")
    parser.add_argument(
        "--timeout", type=float, default=client.TIMEOUT, metavar="S", help="default %(default)g s"
    )
    args = parser.parse_args(argv)
    if not args.compare and not args.data:
        parser.error("--data DIR is needed")
    if (args.folds is None) != (args.fold is None):
        parser.error("--folds FILE and --fold N go together")
    if args.best is not None and args.best <= 0:
        parser.error("--best must be over 0")
    if args.plot and not args.compare:
        parser.error("--plot goes with --compare")
    if args.timeout <= 0:
        parser.error("--timeout must be over 0")
    return args


def run(args: argparse.Namespace) -> int:
    """Scores what `args` choose and writes what they ask for; the exit code. Raises UsageError."""
    cases = find_cases(args.data, args.controls)
    if args.only:
        cases = choose(cases, listed(args.only))
    if args.folds:
        cases = choose(cases, in_fold(args.folds, args.fold))
    for path in filter(None, (args.per_image, args.gallery)):
        prepare(path)
    source = ServerSource(args.url, args.timeout) if args.url else FolderSource(args.masks)

    results: list[Result] = []
    code = 0
    try:
        with tqdm(cases, unit="image", disable=None) as progress:
            for case in progress:
                results.append(score(case, source))
                progress.set_postfix(dice=f"{np.mean([r.dice for r in results]):.3f}")
    except KeyboardInterrupt:
        print(f"scorer: interrupted after {len(results)} of {len(cases)}", file=sys.stderr)
        code = 130
    finally:  # also when a broken data file ends the run: what was scored is kept
        if results:
            print(summary(results, args.best))
            if args.per_image:
                write_whole(args.per_image, to_csv(results))
            if args.gallery:
                write_whole(args.gallery, gallery.page(results))
    return code or int(any(r.fault for r in results))


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        return compare.run(*args.compare, args.plot) if args.compare else run(args)
    except UsageError as error:
        print(f"scorer: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
