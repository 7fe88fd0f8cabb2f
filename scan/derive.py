"""What the challenge's projections are, by the images: `python -m scan.derive --data DIR`.

The challenge says only `mip_pet = np.max(pet, axis=1)`. This prints what the images themselves
show: slices and rows, how rows were interpolated, and which SUV is black, each with its reason.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tumour_segmenter.contract import decode_png
from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import list_images

from .geometry import COLUMN_MM, ROW_MM, taps
from .liver import liver_region

SLICE_MM = 3.0
# Mean SUV of a healthy liver an hour after the injection of FDG: studies report 2.0 to 2.5.
LIVER, LIVER_ERROR = 2.25, 0.15
LIVER_DEPTH, LIVER_DEPTH_ERROR = 150.0, 25.0  # mm from front to back
# Siemens' Biograph mCT: planes of 2.027 mm, and a bed moves by about 62 of them.
PLANE_MM = 2.027
AIR, SATURATED = 15, 200  # uptake, of 255, that is no body, and that may be cut off


@dataclass(frozen=True)
class Liver:
    """One image's liver region: mean of its uptake (0 to 1), SD of its texture, and how alike
    neighbouring columns and rows of the texture are (correlations)."""

    mean: float
    texture: float
    across: float


def uptakes(folder: Path) -> list[np.ndarray]:
    """Read the images of a folder as uptake, float32 H×W from 0 to 255. Raises `UsageError`."""
    try:
        paths = list_images(folder).images
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise UsageError(f"{folder} holds no PNG file")
    return [255 - decode_png(path.read_bytes()).astype(np.float32) for path in paths]


def heights(images: list[np.ndarray]) -> list[str]:
    """How many rows there are for how many slices."""
    rows = np.array([len(image) for image in images])
    fits = int((rows % 3 != 2).sum())
    lines = [
        f"heights of ceil(1.5 (N - 1)) + 1 rows for N slices: {fits} of {len(rows)} (by chance "
        f"two thirds of the {len(set(rows))} different heights)",
    ]
    slices = Counter(int(-(-2 * n // 3)) for n in rows)  # N of 3 N // 2 rows
    (low, high), on_line = bed_step(slices)
    lines.append(
        f"{on_line} of {len(rows)} numbers of slices are whole beds, apart by {low:.2f} to "
        f"{high:.2f} slices (of steps from 30 to 60, those that fit best); 62 planes of {PLANE_MM} "
        f"mm are {62 * PLANE_MM / SLICE_MM:.2f} slices of {SLICE_MM:g} mm"
    )
    return lines


def bed_step(slices: Counter[int]) -> tuple[tuple[float, float], int]:
    """Return the range of steps on which most numbers of slices lie, and how many do.

    slices: number of slices -> images. A scan of more beds has a fixed number of slices more, but
    for rounding down: N = first + step × beds.
    """
    numbers, images = np.array(list(slices)), np.array(list(slices.values()))
    most = int(numbers[images.argmax()])
    found: dict[float, int] = {}
    for step in np.arange(30.0, 60.0, 0.01):
        for part in np.arange(0.0, 1.0, 0.05):
            beds = np.round((numbers - most - part) / step)
            fits = np.floor(most + part + beds * step) == numbers
            found[float(step)] = max(found.get(float(step), 0), int(images[fits].sum()))
    best = max(found.values())
    steps = [step for step, count in found.items() if count == best]
    return (min(steps), max(steps)), best


def phases(images: list[np.ndarray], regions: list[tuple[slice, slice]]) -> np.ndarray:
    """Texture of rows by their place between slices: variance, relative to rows that are slices.

    regions: (rows, columns) of each image where there is little but noise. Of rows from the last
    one up, 0 is a slice itself, 1 and 2 lie between two. float [3].
    """
    sums, counts = np.zeros(3), np.zeros(3)
    for image, (rows, columns) in zip(images, regions, strict=True):
        part = image[:, columns]
        bend = np.square(part[1:-1] - (part[:-2] + part[2:]) / 2).mean(axis=1)
        for row in range(max(1, rows.start), min(rows.stop, len(image) - 1)):
            sums[(len(image) - 1 - row) % 3] += bend[row - 1]
            counts[(len(image) - 1 - row) % 3] += 1
    return sums / counts / (sums[0] / counts[0])


def noise(shape: tuple[int, int, int], fwhm: float, voxel: tuple, seed: int = 0) -> np.ndarray:
    """Gaussian noise of mean 0 and SD 1 with a resolution of `fwhm` mm.

    shape, voxel: slices, depth, columns; voxel in mm.
    """
    values = np.random.RandomState(seed).standard_normal(shape)
    for axis, mm in enumerate(voxel):
        at = np.fft.rfftfreq(shape[axis], mm) if axis == 2 else np.fft.fftfreq(shape[axis], mm)
        # The transform of a Gaussian of this width.
        blur = np.exp(-2 * (np.pi * at * fwhm / 2.3548) ** 2)
        size = [1, 1, 1]
        size[axis] = len(at)
        spectrum = np.fft.rfft(values, axis=2) if axis == 2 else np.fft.fft(values, axis=axis)
        spectrum *= blur.reshape(size)
        inverse = (
            np.fft.irfft(spectrum, shape[2], axis=2)
            if axis == 2
            else np.fft.ifft(spectrum, axis=axis).real
        )
        values = inverse
    return values / values.std()


def interpolated(fwhm: float, kind: str) -> np.ndarray:
    """What `phases` would be for noise of this resolution: kind nearest, linear or cubic."""
    volume = noise((80, 74, 120), fwhm, (SLICE_MM, COLUMN_MM, COLUMN_MM))
    places = np.arange(0, 78, ROW_MM / SLICE_MM)
    rows = []
    for place in places:
        at, t = int(np.floor(place + 1e-9)), place - np.floor(place + 1e-9)
        if kind == "nearest":
            plane = volume[round(place)]
        elif kind == "linear":
            plane = volume[at] * (1 - t) + volume[at + 1] * t
        else:
            cubic = taps(np.array([place]), len(volume), 1.0)
            plane = np.tensordot(cubic.weight[0], volume[cubic.index[0]], (0, 0))
        rows.append((1 + 0.2 * plane).max(axis=0))
    image = np.array(rows, np.float32)[::-1]
    return phases([image], [(slice(3, len(image) - 3), slice(None))])


def liver_of(image: np.ndarray, region: tuple[slice, slice]) -> Liver:
    """Measure the liver region of one image, uptake 0 to 255."""
    square = image[region] / 255
    rest = _without_plane(square)
    spread = float(rest.std())
    across = float((rest[:, 1:] * rest[:, :-1]).mean() / rest.var()) if spread else 0.0
    return Liver(float(square.mean()), spread, across)


def _without_plane(square: np.ndarray) -> np.ndarray:
    """Take the slow changes out, which are the organ's shape: a second-degree surface."""
    y, x = np.mgrid[-1 : 1 : square.shape[0] * 1j, -1 : 1 : square.shape[1] * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    fit = np.linalg.lstsq(terms, square.ravel(), rcond=None)[0]
    return square - (terms @ fit).reshape(square.shape)


@cache
def brightest(fwhm: float, depth: float) -> tuple[float, float, float]:
    """Of noise of SD 1 seen through `depth` mm: mean and SD of its maximum, and its correlation
    from column to column."""
    rows = max(2, round(depth / COLUMN_MM))
    volume = noise((40, rows, 160), fwhm, (SLICE_MM, COLUMN_MM, COLUMN_MM))
    down = taps(np.arange(0, 39, ROW_MM / SLICE_MM), 40, 1.0)
    planes = (
        np.tensordot(weight, volume[index], (0, 0))
        for index, weight in zip(down.index, down.weight, strict=True)
    )
    image = np.array([plane.max(axis=0) for plane in planes])
    rest = image - image.mean()
    across = float((rest[:, 1:] * rest[:, :-1]).mean() / rest.var())
    return float(image.mean()), float(image.std()), across


def black_of(livers: list[Liver]) -> dict[str, float]:
    """Return the SUV that is black, its error, and the steps to it.

    The image shows of the liver the maximum along each ray, which lies above the mean by the
    noise. How much noise there is, the texture of the region shows: the maximum of more noise
    varies more from pixel to pixel.
    """
    level = float(np.median([liver.mean for liver in livers]))
    share = float(np.median([liver.texture / liver.mean for liver in livers]))
    across = float(np.median([liver.across for liver in livers]))
    widths = np.arange(4.0, 9.1, 0.5)
    fwhm = float(min(widths, key=lambda w: abs(brightest(w, LIVER_DEPTH)[2] - across)))

    def ratio(width: float, depth: float, texture: float) -> float:
        high, spread, _ = brightest(width, depth)
        return 1 + high * texture / (spread - high * texture)

    middle = ratio(fwhm, LIVER_DEPTH, share)
    errors = [
        (ratio(fwhm + 1, LIVER_DEPTH, share) - ratio(max(3.0, fwhm - 1), LIVER_DEPTH, share)) / 2,
        (ratio(fwhm, LIVER_DEPTH + LIVER_DEPTH_ERROR, share)
         - ratio(fwhm, LIVER_DEPTH - LIVER_DEPTH_ERROR, share)) / 2,
        (ratio(fwhm, LIVER_DEPTH, 1.1 * share) - ratio(fwhm, LIVER_DEPTH, 0.9 * share)) / 2,
    ]  # fmt: skip
    relative = np.hypot(LIVER_ERROR / LIVER, np.sqrt(np.square(errors).sum()) / middle)
    black = LIVER * middle / level
    return {
        "level": level,
        "texture": share,
        "across": across,
        "fwhm_mm": fwhm,
        "ratio": middle,
        "ratio_error": float(np.sqrt(np.square(errors).sum())),
        "black": black,
        "error": float(black * relative),
    }


def main(argv: list[str] | None = None) -> int:
    """Print what the images of `--data`, a folder with controls/ and patients/, show."""
    parser = argparse.ArgumentParser(prog="python -m scan.derive", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="challenge's data")
    arguments = parser.parse_args(argv)
    try:
        controls = uptakes(arguments.data / "controls" / "imgs")
        patients = uptakes(arguments.data / "patients" / "imgs")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    widths = Counter(image.shape[1] for image in controls + patients)
    print(f"columns: {dict(widths)}")
    for name, images in (("controls", controls), ("patients", patients)):
        for line in heights(images):
            print(f"{name}: {line}")
    pixel = ROW_MM, COLUMN_MM
    regions = [liver_region(image, pixel, saturated=SATURATED, body=AIR) for image in controls]
    controls = [image for image, region in zip(controls, regions, strict=True) if region]
    regions = [region for region in regions if region]
    livers = [liver_of(image, region) for image, region in zip(controls, regions, strict=True)]
    black = black_of(livers)
    found = phases(controls, regions)
    print(f"texture of the liver's rows, from the last one up: 1, {found[1]:.2f}, {found[2]:.2f}")
    for kind in ("nearest", "linear", "cubic"):
        for width in (black["fwhm_mm"], black["fwhm_mm"] + 1):
            other = interpolated(width, kind)
            print(
                f"  {kind} between slices, at a resolution of {width:g} mm, gives 1, "
                f"{other[1]:.2f}, {other[2]:.2f}"
            )
    print(
        f"liver of {len(livers)} controls: {black['level']:.3f} of black, texture "
        f"{100 * black['texture']:.1f} %, correlation {black['across']:.2f} from column to column "
        f"(a resolution of {black['fwhm_mm']:g} mm)\n"
        f"projection / mean of the liver: {black['ratio']:.2f} ± {black['ratio_error']:.2f}\n"
        f"black is SUV {black['black']:.1f} ± {black['error']:.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
