"""Do own projections have the training images' grey scale?"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np

from tumour_segmenter import files
from tumour_segmenter.contract import ContractError, decode_png
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import counted

from .geometry import COLUMN_MM, ROW_MM
from .liver import liver_region

BINS = np.arange(0, 257, 4)
AIR, SATURATED = 15, 200  # uptake, of 255, that is no body, and that may be cut off


def find_images(given: list[Path]) -> list[Path]:
    """Return the PNGs of a folder of images, or the mip.png of folders of results.

    Raises `UsageError` where there is none.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            raise UsageError(f"{path} is no folder")
        found += sorted(path.rglob("mip.png")) or sorted(path.glob("*.png"))
    if not found:
        raise UsageError(f"{', '.join(map(str, given))}: no mip.png and no PNG file")
    return found


def histogram(paths: list[Path]) -> tuple[np.ndarray, list[float]]:
    """Return (share of the body's pixels in each bin of uptake, the liver's level in each image).

    Each image counts the same; uptake is 255 - grey; the level is a share of black, 0 to 1.
    """
    shares, livers = [], []
    for path in paths:
        try:
            uptake = 255 - decode_png(path.read_bytes()).astype(np.float32)
        except ContractError as error:
            raise UsageError(f"{path}: {error}") from error
        body = uptake[uptake > AIR]
        if body.size:
            shares.append(np.histogram(body, BINS)[0] / body.size)
        region = liver_region(uptake, (ROW_MM, COLUMN_MM), saturated=SATURATED, body=AIR)
        if region:
            livers.append(float(uptake[region].mean() / 255))
    if not shares:
        raise UsageError("no image shows a body")
    return np.mean(shares, axis=0), livers


def figure(train: np.ndarray, own: np.ndarray) -> bytes:
    """Return a PNG that lays the two histograms over each other."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            f"a figure needs matplotlib: {sys.executable} -m pip install matplotlib"
        ) from error
    picture = Figure(figsize=(7, 4), layout="constrained")
    axes = picture.add_subplot()
    for values, name in ((train, "training images"), (own, "own images")):
        axes.stairs(100 * values, BINS, label=name, fill=name != "own images", alpha=0.7)
    axes.set(
        xlabel="uptake in the image: 255 - grey (255 is black)",
        ylabel="% of the body's pixels",
        yscale="log",
    )
    axes.legend()
    out = io.BytesIO()
    FigureCanvasAgg(picture).print_png(out)
    return out.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Print how the livers compare, and draw the histograms; 1 without livers, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m scan.grey", description=__doc__)
    parser.add_argument(
        "--train", type=Path, required=True, metavar="DIR", help="training images, of controls"
    )
    parser.add_argument(
        "--own", type=Path, required=True, nargs="+", metavar="DIR", help="results of scan"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw the histograms there (PNG)")
    arguments = parser.parse_args(argv)
    try:
        names, own_names = find_images([arguments.train]), find_images(arguments.own)
        if arguments.out:
            files.check_outputs(names + own_names, [arguments.out])
        (train, livers), (own, own_livers) = histogram(names), histogram(own_names)
        if arguments.out:
            files.write(arguments.out, figure(train, own))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {files.reason(error)}", file=sys.stderr)
        return 2
    for name, found, images in (("training", livers, names), ("own", own_livers, own_names)):
        line = f"{name}: {counted(len(images), 'image')}, liver found in {len(found)}"
        if found:
            low, middle, high = np.percentile(found, [25, 50, 75])
            line += f", at {middle:.3f} of black (half of them {low:.3f} to {high:.3f})"
        print(line)
    if not (livers and own_livers):
        print("error: no livers to compare; are these the right images?", file=sys.stderr)
        return 1
    factor = float(np.median(own_livers) / np.median(livers))
    print(f"to bring the livers together, multiply --suv-black by {factor:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
