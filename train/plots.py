"""Pictures of a run, learning curves and a sheet of previews, and the FROC curve of results."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from train.dataset import Case
from tumour_segmenter.files import replacing

COLOURS = (0, 160, 60), (220, 40, 40), (40, 80, 230)  # of true positives, false ones, negatives
PREVIEWS = 8


def _save(figure: Figure, out: Path, dpi: int, **options: str) -> None:
    with replacing(out) as partial:
        figure.savefig(partial, dpi=dpi, format="png", **options)


def learning_curves(rows: list[dict], out: Path) -> None:
    """Draw loss and validation Dice over the steps into the PNG `out`; rows: of log.csv."""
    steps = [row["steps"] for row in rows]
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [float(row["train_loss"]) for row in rows], marker=".")
    left.set(xlabel="step", ylabel="training loss (BCE + Dice)")
    for column in ("dice_mean", "dice_median"):
        right.plot(steps, [float(row[column]) for row in rows], marker=".", label=column)
    right.set(xlabel="step", ylabel="Dice of validation patients", ylim=(0, 1))
    right.legend()
    _save(figure, out, dpi=110)


def _overlay(case: Case, prediction: np.ndarray) -> np.ndarray:
    """uint8 H×W×3: true positives green, false positives red, false negatives blue."""
    picture = np.repeat((255 - case.uptake)[:, :, None], 3, axis=2).astype(np.float32)
    kinds = (case.truth & prediction, ~case.truth & prediction, case.truth & ~prediction)
    for mask, colour in zip(kinds, COLOURS, strict=True):
        picture[mask] = 0.3 * picture[mask] + 0.7 * np.array(colour)
    return picture.astype(np.uint8)


def preview_sheet(patients: list[tuple[Case, np.ndarray, float]], out: Path) -> None:
    """PREVIEWS of the (case, bool H×W mask, Dice), from the smallest lesions to the largest."""
    ordered = sorted(patients, key=lambda patient: patient[0].truth.sum())
    count = min(PREVIEWS, len(ordered))
    chosen = [ordered[i] for i in np.linspace(0, len(ordered) - 1, count).astype(int)]
    figure = Figure(figsize=(2.4 * count, 8))
    axes = figure.subplots(2, count, squeeze=False)
    for (case, mask, dice), (above, below) in zip(chosen, axes.T, strict=True):
        above.imshow(255 - case.uptake, cmap="gray", vmin=0, vmax=255)
        above.set_title(f"{case.name}\nDice {dice:.2f}", fontsize=8)
        below.imshow(_overlay(case, mask))
        above.axis("off")
        below.axis("off")
    figure.tight_layout()
    _save(figure, out, dpi=110)


def froc_curve(froc: dict, out: Path) -> None:
    """Over thresholds of the probability, with operating points; froc: of out_of_fold.collect."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for group, colour in (("patients", "tab:blue"), ("controls", "tab:orange")):
        key = f"per_image_of_{group}"
        rows = [row for row in froc["thresholds"].values() if key in row]
        if not rows:
            continue
        places = [row[key] for row in rows], [row["sensitivity"] for row in rows]
        axes.plot(*places, ".-", color=colour, label=f"one threshold, {group}")
        for name, row in froc["operating_points"].items():
            axes.plot(row[key], row["sensitivity"], "D", color=colour)
            axes.annotate(name, (row[key], row["sensitivity"]), fontsize=8)
    axes.set(xlabel="false-positive lesions per image", ylabel="per-lesion sensitivity")
    axes.legend()
    _save(figure, out, dpi=80, bbox_inches="tight")
