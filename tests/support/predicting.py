"""What tests of `predict` share: three images, the command, and what it wrote."""

from pathlib import Path

import numpy as np

from tumour_segmenter.cli import main as cli
from tumour_segmenter.contract import decode_png, encode_png
from tumour_segmenter.phantom import phantom

NOTE = "note: ignored files that are not named *.png: 1 (notes.txt)\n"
PIXELS = [phantom(height, 100, 3, seed=height)[0] for height in (120, 140, 260)]


def write_images(folder: Path) -> Path:
    """Make a folder with an image for each of PIXELS, and a file that is no image."""
    folder.mkdir()
    for number, pixels in enumerate(PIXELS):
        (folder / f"scan_{number}.png").write_bytes(encode_png(pixels))
    (folder / "notes.txt").write_text("not an image")
    return folder


def predict(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments), "--jobs", "1"])


def masks(out: Path) -> list[np.ndarray]:
    return [decode_png(path.read_bytes()) for path in sorted(out.glob("scan_?.png"))]


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}
