"""The command line: `python -m scan SOURCE ... --out DIR`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import tumour_segmenter
from tumour_segmenter.cli.shards import HELP as SHARD_HELP
from tumour_segmenter.errors import ArtifactError, SettingsError, UsageError
from tumour_segmenter.needs import require

from .errors import ScanError
from .geometry import SUV_BLACK
from .limits import LEAST_DOSE, MOST_DOSE, WEIGHTS
from .times import parse_given

ABOUT = """\
Turn PET series into the projection that the model was trained on, mark the
tumours in it and measure them. A SOURCE is a folder of DICOM files (searched
deep), a ZIP of such, or a .nii or .nii.gz file in SUV.

  python -m scan study/ --out results
  python -m scan study1.zip study2.zip --out results --csv results/table.csv
  python -m scan suv.nii.gz --out results"""

MORE = """\
For each PET series there is a folder below DIR: mip.png (what the model gets),
mask.png, overlay.png, report.json, report.html, and with --dicom mip.dcm (the
projection in SUV) and mask.dcm (a DICOM segmentation of it). Without
--dicom-patient nothing of it holds a name or an id. A series is done again only
if its files, the model, the version or the options changed. What is refused
writes nothing.

--csv FILE gets a row for each series. See docs/own-scans.md for what the numbers
mean: an area in a projection is no volume.

The model is the server's: the environment variable MODEL, by default the shipped
one.

exit codes:
  0    every series is done
  1    some were refused, each is named with the reason; the others are done
  2    nothing was done: wrong usage, no such file, no model
  130  interrupted; what was done by then is kept

Research software, not a medical device."""

LEAST_BECQUEREL = 1e5  # a dose that large is no number of MBq


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        require("scan", "pydicom")
        if any(path.name.lower().endswith((".nii", ".nii.gz")) for path in arguments.sources):
            require("scan", "nibabel")
        if arguments.dicom:
            require("scan", "highdicom")
        from .run import run  # only now, for it imports those packages

        return run(arguments)
    except (UsageError, ArtifactError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scan",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=tumour_segmenter.__version__)
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="folder, ZIP or NIfTI file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a table of all series")
    parser.add_argument("--dicom", action="store_true", help="also write mip.dcm and mask.dcm")
    parser.add_argument(
        "--dicom-patient",
        action="store_true",
        help="with --dicom: copy name, id, birth date and sex of the patient, id, accession number "
        "and referring physician of the study into those two files, "
        "so that an archive files them with the scan (default: they are left empty)",
    )
    parser.add_argument(
        "--series",
        action="append",
        metavar="UID",
        help="only this one (repeatable)",
    )
    parser.add_argument("--shard", metavar="I/N", help=SHARD_HELP)
    parser.add_argument(
        "--operating-point", metavar="NAME", help="of the model, such as sensitive or specific"
    )
    parser.add_argument(
        "--suv-black",
        type=_between(0.1, 1000),
        default=SUV_BLACK,
        metavar="SUV",
        help="the SUV that is black in the projection (default: %(default)g)",
    )
    supplied = parser.add_argument_group(
        "in place of what the headers say or lack, for all series of the command"
    )
    supplied.add_argument("--weight", type=_between(*WEIGHTS), metavar="KG", help="body weight")
    supplied.add_argument(
        "--dose", type=_dose, metavar="MBQ", help="injected activity (in Bq if over 100,000)"
    )
    supplied.add_argument(
        "--half-life", type=_between(1, 1e6), metavar="SECONDS", help="of the tracer"
    )
    supplied.add_argument(
        "--injection-time", type=_time, metavar="TIME", help="10:05, 10:05:30 or 2020-12-17 10:05"
    )
    supplied.add_argument(
        "--scan-time", type=_time, metavar="TIME", help="to which decay is corrected; likewise"
    )
    supplied.add_argument(
        "--suv-factor",
        type=_positive,
        metavar="FACTOR",
        help="SUV = value × FACTOR, in place of any rule (value: with slope and intercept)",
    )
    return parser


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _between(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = _positive(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return number

    return parse


def _dose(text: str) -> float:
    number = _positive(text)
    number = number if number > LEAST_BECQUEREL else number * 1e6
    if not LEAST_DOSE <= number <= MOST_DOSE:
        raise argparse.ArgumentTypeError(f"{text} is no dose in MBq")
    return number


def _time(text: str):
    try:
        return parse_given(text)
    except ScanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
