"""Draws the pictures of the documents, all of synthetic phantoms: `python docs/figures.py`.

    page.png      the page for people: a phantom's mask, and beside it the probability
    report.png    the report of a scanned phantom
    gallery.png   the scorer's gallery of three phantoms
    pipeline.svg  the way of an image

What was measured is drawn by `python -m train.out_of_fold`, into artifacts/.
figures.json holds a hash of each picture and of the files that it shows: a test says when a picture
is older than one of these. Needs chromium and chromedriver, and the environment .venv-dev.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageChops

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
sys.path[:0] = [str(PROJECT), str(DOCS)]

import pipeline  # noqa: E402
from selenium import webdriver  # noqa: E402

from benchmarks.scan import write_series  # noqa: E402
from tests.support.browser import CHROMEDRIVER, CHROMIUM, Page, open_browser  # noqa: E402
from tests.support.serving import serving  # noqa: E402
from tumour_segmenter import files  # noqa: E402
from tumour_segmenter.contract import encode_png  # noqa: E402
from tumour_segmenter.phantom import phantom  # noqa: E402

RECORD = DOCS / "figures.json"
MODEL = ("artifacts/model.onnx.sha256", "tumour_segmenter/phantom.py")
# Picture -> the files that decide what it shows.
SHOWS = {
    "page.png": ("serve/page/static/**/*", *MODEL),
    "report.png": ("scan/html.py", "scan/report.py", *MODEL),
    "gallery.png": ("benchmarks/scoring/gallery.py", *MODEL),
    "pipeline.svg": ("docs/pipeline.py",),
}
WIDTH, HEIGHT = 1280, 900  # of the browser's window
MARGIN = 12  # pixels
COLOURS = 224  # of the palette of a PNG
GALLERY = 3  # phantoms
HEIGHT_OF_PHANTOM = 489  # pixels


def shown_by(name: str) -> str:
    """Return one hash of all files that decide what a picture shows."""
    sha256 = hashlib.sha256()
    for pattern in SHOWS[name]:
        found = sorted(path for path in PROJECT.glob(pattern) if path.is_file())
        if not found:
            raise FileNotFoundError(f"{name} shows {pattern}, which is not there")
        for path in found:
            sha256.update(path.relative_to(PROJECT).as_posix().encode() + b"\0")
            sha256.update(hashlib.sha256(path.read_bytes()).digest())
    return sha256.hexdigest()


def record() -> dict[str, dict[str, str]]:
    """Return for each picture the hash of its file, and of what it shows, as of now."""
    return {
        name: {
            "sha256": hashlib.sha256((DOCS / name).read_bytes()).hexdigest(),
            "shows": shown_by(name),
        }
        for name in SHOWS
    }


def page(browser: webdriver.Chrome) -> Image.Image:
    """The page with the mask of a phantom, and beside it the probability in its place."""
    with serving("shipped", WORKERS="1") as server, _folder() as folder:
        scan = folder / "scan.png"
        files.write(scan, encode_png(phantom(HEIGHT_OF_PHANTOM, lesions=3, seed=1)[0]))
        shown = Page(browser, server.url)
        shown.resize(WIDTH, HEIGHT)
        shown.open()
        shown.upload(scan)
        shown.wait_for(1)
        shown.facts()
        shown.run("scrollTo(0, 0)")
        mask = _picture(browser.get_screenshot_as_png())
        shown.click("input[name=show][value=probability]")
        shown.run("document.activeElement.blur(); scrollTo(0, 0)")
        probability = _picture(browser.get_screenshot_as_png())
        top = shown.run("return document.getElementById('legend').getBoundingClientRect().y")
        box = shown.run("return document.getElementById('stage').getBoundingClientRect()")
    left, right, bottom = box["left"], box["right"], min(box["bottom"] + MARGIN, HEIGHT)
    return beside(mask, probability.crop((left - MARGIN, top, right + MARGIN, bottom)), top)


def report(browser: webdriver.Chrome) -> Image.Image:
    """The report of the phantom, scanned from DICOM files."""
    with _folder() as folder:
        write_series(folder / "study")
        _python("-m", "scan", folder / "study", "--out", folder / "results")
        (html,) = folder.glob("results/*/report.html")
        return _screenshot(browser, html, WIDTH, HEIGHT)


def gallery(browser: webdriver.Chrome) -> Image.Image:
    """The scorer's page on a few phantoms."""
    with _folder() as folder, serving("shipped", WORKERS="1") as server:
        for kind in ("imgs", "labels"):
            (folder / "patients" / kind).mkdir(parents=True)
        for number in range(GALLERY):
            pixels, truth = phantom(HEIGHT_OF_PHANTOM, lesions=3, seed=number + 1)
            patient = folder / "patients"
            files.write(patient / f"imgs/patient_{number:03}.png", encode_png(pixels))
            files.write(patient / f"labels/segmentation_{number:03}.png", encode_png(truth))
        html = folder / "gallery.html"
        scorer = PROJECT / "benchmarks" / "scorer.py"
        _python(scorer, "--url", server.url, "--data", folder, "--gallery", html)
        return _screenshot(browser, html, 780, 640)


def beside(left: Image.Image, right: Image.Image, top: float) -> Image.Image:
    """Two pictures in a row, the right one with `top` pixels above it."""
    both = Image.new("RGB", (left.width + right.width, left.height), left.getpixel((0, 0)))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, round(top)))
    return both


def trimmed(picture: Image.Image) -> Image.Image:
    """Without what is empty at the bottom, but for a margin."""
    empty = Image.new("RGB", picture.size, picture.getpixel((0, picture.height - 1)))
    _, _, _, bottom = ImageChops.difference(picture, empty).getbbox()
    return picture.crop((0, 0, picture.width, min(bottom + MARGIN, picture.height)))


def small(picture: Image.Image) -> bytes:
    """Return a PNG with a palette."""
    png = io.BytesIO()
    few = trimmed(picture).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(png, "PNG", optimize=True)
    return png.getvalue()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _python(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(os.fspath, arguments)], cwd=PROJECT, check=True)


def _picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def _screenshot(browser: webdriver.Chrome, html: Path, width: int, height: int) -> Image.Image:
    shown = Page(browser, html.as_uri())
    shown.resize(width, height)
    browser.get(shown.url)
    return _picture(browser.get_screenshot_as_png())


def main() -> int:
    if not (CHROMIUM and CHROMEDRIVER):
        print("error: install chromium and chromedriver, which draw the pages", file=sys.stderr)
        return 2
    with _folder() as profile, open_browser(profile) as browser:
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        for draw in (page, report, gallery):
            files.write(DOCS / f"{draw.__name__}.png", small(draw(browser)))
    files.write(DOCS / "pipeline.svg", pipeline.pipeline())
    files.write_json(RECORD, record())
    return 0


if __name__ == "__main__":
    sys.exit(main())
