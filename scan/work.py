"""One series -> its folder of results, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import tumour_segmenter
from tumour_segmenter import files
from tumour_segmenter.cli.batch import draw_overlay
from tumour_segmenter.contract import encode_png

from . import dicom_in, html, nifti_in
from .errors import ScanError
from .lesions import measure
from .mip import Projection, project
from .model import Model
from .options import Options
from .report import report
from .result import Result, Scan
from .source import Series
from .usual import warnings_of
from .volume import upright

REPORT = "report.json"
ALWAYS = ["mip.png", "mask.png", "overlay.png", "report.html"]
DICOM = ["mip.dcm", "mask.dcm"]


def run_of(series: Series, options: Options, model: Model) -> dict:
    """Return what a report must have been made from, not to be made again."""
    return {
        "version": tumour_segmenter.__version__,
        "model": model.as_json(),
        "source": series.fingerprint,
        "options": options.as_json(),
    }


def done(folder: Path, run: dict) -> dict | None:
    """Return the report in `folder` if it was made by the same `run`, and all files are there."""
    names = ALWAYS + (DICOM if run["options"]["dicom"] else [])
    with files.locked(folder.parent):  # not while another command replaces them
        try:
            said = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = all((folder / name).is_file() and (folder / name).stat().st_size for name in names)
    return said if whole and isinstance(said, dict) and said.get("run") == run else None


def process(
    series: Series,
    folder: Path,
    options: Options,
    model: Model,
    step: Callable[[], None] = lambda: None,
) -> dict:
    """Make the results of a series in `folder`; return the report.

    step: called after each file that was read. Raises `ScanError` and `OSError`; then nothing is
    written, and what lay in `folder` before lies there still.
    """
    if series.fault:
        raise ScanError(series.fault, series.at_fault)
    read = dicom_in.read if series.uid else nifti_in.read
    result = segment(read(series, options.given, step), options, model)
    said = report(result) | {"run": run_of(series, options, model)}
    made: dict[str, bytes] = {}
    if options.dicom:
        from . import dicom_out

        made, notes = dicom_out.make(result)
        said["warnings"] += notes
    _write(folder, made | _contents(said, result.view, result.mask))
    return said


def segment(scan: Scan, options: Options, model: Model) -> Result:
    """Project a scan and segment the projection. Raises `ScanError`."""
    body = upright(scan.volume)
    view = project(body, options.black)
    mask, probability = model(view.pixels)
    lesions = measure(mask, view, body, scan.volume.uids, probability)
    notes = warnings_of(scan, body, view)
    return Result(scan, options, body, view, mask, lesions, model.as_json(), notes)


def _contents(said: dict, view: Projection, mask: np.ndarray) -> dict[str, bytes | str]:
    overlay = draw_overlay(view.pixels, mask)
    mip = io.BytesIO()
    Image.fromarray(view.pixels).save(mip, "PNG")
    return {
        "mip.png": mip.getvalue(),
        "mask.png": encode_png(mask),
        "overlay.png": overlay,
        "report.html": html.page(said, overlay),
        REPORT: json.dumps(said, indent=1) + "\n",
    }


def _write(folder: Path, contents: dict[str, bytes | str]) -> None:
    """Write all files beside the folder, then move them in; the report is the last.

    What is not ours stays; a file of an earlier run that this one does not make is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{files.PARTIAL}{secrets.token_hex(6)}")
    partial.mkdir()
    try:
        for name, data in contents.items():
            files.write(partial / name, data)
        with files.locked(folder.parent):  # two commands: never the report of one, picture of other
            if not folder.exists():
                partial.rename(folder)
                return
            for name in [REPORT, *ALWAYS, *DICOM]:
                (folder / name).unlink(missing_ok=True)
            for name in sorted(contents, key=lambda name: name == REPORT):
                os.replace(partial / name, folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
