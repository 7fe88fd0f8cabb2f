"""Did the score really change? Two per-image CSVs of the scorer, patient by patient.

Means over some hundred patients differ by chance. The same patients were scored twice, so the
differences per patient are what counts; a bootstrap over patients says how sure their mean is.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.running.program import prepare, read_text
from benchmarks.running.statistics import interval
from tumour_segmenter import files
from tumour_segmenter.errors import UsageError


def read(path: Path) -> dict[str, float]:
    """Dice by patient of a `--per-image` file; UsageError when it is none."""
    try:
        rows = csv.DictReader(read_text(path).splitlines())
        dice = {row["case"]: float(row["dice"]) for row in rows if row["group"] == "patient"}
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no --per-image file of the scorer") from error
    if not all(0 <= value <= 1 for value in dice.values()):
        raise UsageError(f"{path} holds a Dice that is not within 0 and 1")
    if not dice:
        raise UsageError(f"{path} holds no patient")
    return dice


def run(first: Path, second: Path, plot: Path | None = None) -> int:
    """Prints what changed from `first` to `second`, draws it if `plot` is given; 0. UsageError."""
    before, after = read(first), read(second)
    names = sorted(before.keys() & after.keys())
    if not names:
        raise UsageError(f"{first} and {second} share no patient")
    if plot:
        prepare(plot)
        files.check_outputs([first, second], [plot])
    a = np.array([before[name] for name in names])
    b = np.array([after[name] for name in names])
    difference = b.mean() - a.mean()
    low, high = interval(b - a)
    verdict = "better" if low > 0 else "worse" if high < 0 else "no sure difference"
    alone = len(before.keys() ^ after.keys())

    print(f"patients      {len(names)} in both, {alone} in one only and left out")
    print(f"mean Dice     {a.mean():.4f} -> {b.mean():.4f}")
    print(f"difference    {difference:+.4f}, 95 % from {low:+.4f} to {high:+.4f}: {verdict}")
    print(f"patients      {(b > a).sum()} better, {(b < a).sum()} worse, {(b == a).sum()} equal")
    print("most changed")
    for index in np.argsort(-abs(b - a), kind="stable")[:5]:
        print(f"  {names[index]:<12}{a[index]:.4f} -> {b[index]:.4f}")
    if plot:
        draw(a, b, (low, high), (first.stem, second.stem), plot)
        print(f"plot          {plot}")
    return 0


def draw(
    a: np.ndarray, b: np.ndarray, interval: tuple[float, float], names: tuple[str, str], plot: Path
) -> None:
    """A dot for each patient, before against after; over the diagonal is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    axes.set(xlabel=f"Dice, {names[0]}", ylabel=f"Dice, {names[1]}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.scatter(a, b, s=14, alpha=0.6)
    axes.set_title(f"{(b - a).mean():+.4f}  ({interval[0]:+.4f} to {interval[1]:+.4f})")
    with files.replacing(plot) as partial:
        figure.savefig(partial, dpi=120, format="png")
