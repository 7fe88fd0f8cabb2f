"""How long a whole-body PET series takes from DICOM files to report, and how much memory.

    python -m benchmarks.scan

Writes a synthetic series of 326 slices of 400 × 400, runs `python -m scan` on one core in a process
of its own, and checks both numbers: at most 15 s and 1.5 GB.

Exit codes: 0 both limits are kept, 1 one is not, 2 wrong usage or a scan that fails,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

# Run as a script, Python looks for modules beside the script and not in the project's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import benchmarks  # noqa: F401  one line where the environment lacks something

# isort: split

import numpy as np

from benchmarks.host import hostinfo
from benchmarks.running import program
from benchmarks.running.program import ROOT, prepare, whole
from tumour_segmenter import files, needs
from tumour_segmenter.errors import UsageError
from tumour_segmenter.phantom import volume

SLICES, SIZE = 326, 400
MOST_SECONDS, MOST_GB = 15.0, 1.5
PET = "1.2.840.10008.5.1.4.1.1.128"
SLOPE = 0.001  # SUV for each stored step


def write_series(folder: Path) -> None:
    """Write the phantom of `phantom.volume` as a PET series in SUV, each slice 400 × 400."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    suv, _, (between, down, right) = volume(seed=1)
    suv = suv[::-1].repeat(2, axis=1).repeat(2, axis=2)  # from the feet up
    image = np.zeros((SIZE, SIZE), "<u2")
    rows, columns = suv.shape[1:]
    y, x = (SIZE - rows) // 2, (SIZE - columns) // 2
    folder.mkdir(parents=True)
    for k in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = PET, ExplicitVRLittleEndian
        one = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.Modality = PET, "PT"
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + 1}"
        one.StudyInstanceUID, one.SeriesInstanceUID = "1.2", "1.2.3"
        one.FrameOfReferenceUID = "1.2.4"
        one.Units, one.DecayCorrection, one.CorrectedImage = "GML", "START", ["ATTN", "DECY"]
        one.ImagePositionPatient = [-407, -407, f"{k * between:.4f}"]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing = [down / 2, right / 2]
        one.RescaleSlope, one.RescaleIntercept = SLOPE, 0
        one.Rows = one.Columns = SIZE
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        image[y : y + rows, x : x + columns] = np.minimum(suv[k] / SLOPE, 65_535)
        one.PixelData = image.tobytes()
        one.save_as(folder / f"{k}.dcm", enforce_file_format=True)


def run_once(source: Path, out: Path, options: list[str]) -> dict[str, float]:
    """Run the command on one core: wall and processor seconds, and GB of memory at the most.

    Raises UsageError where it fails.
    """
    core = {min(os.sched_getaffinity(0))}
    command = [sys.executable, "-m", "scan", str(source), "--out", str(out), *options]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UsageError(f"python -m scan ended with {process.returncode}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "gb": round(used.ru_maxrss * 1024 / 1e9, 3),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scan", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--runs", type=whole, default=3, metavar="N", help="default %(default)s")
    parser.add_argument("--dicom", action="store_true", help="with DICOM results as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Measure; exit code 0 if both limits are kept, 1 if not."""
    needs.require("scan", "pydicom", "nibabel", "highdicom")
    if arguments.json:
        prepare(arguments.json)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder, "series"))
        for number in range(arguments.runs):
            out = Path(folder, f"out{number}")
            options = ["--dicom"] if arguments.dicom else []
            runs.append(run_once(Path(folder, "series"), out, options))
            print(runs[-1], flush=True)
    seconds, gb = (max(run[key] for run in runs) for key in ("seconds", "gb"))
    kept = seconds <= MOST_SECONDS and gb <= MOST_GB
    print(
        f"{SLICES} slices of {SIZE}×{SIZE} on one core: {seconds} s (at most {MOST_SECONDS:g}), "
        f"{gb} GB (at most {MOST_GB:g}): check {'passed' if kept else 'failed'}"
    )
    if arguments.json:
        found = {"runs": runs, "dicom": arguments.dicom, "passed": kept, "host": hostinfo.facts()}
        files.write_json(arguments.json, found)
    return 0 if kept else 1


main = partial(program.main, "scan", parse, run)


if __name__ == "__main__":
    sys.exit(main())
