"""Pictures of a run and of what was measured out of fold."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from train.dataset import Case
from tumour_segmenter.files import replacing

COLOURS = (0, 160, 60), (220, 40, 40), (40, 80, 230)  # of true positives, false ones, negatives
PREVIEWS = 8
COLOUR = "tab:blue"
POINT_FIGURES = {
    "dice": ("Dice of patients", 1, "{:.3f}".format),
    "lesion_sensitivity": ("lesions found", 1, "{:.0%}".format),
    "false_lesions_per_patient": ("false lesions per patient", None, "{:.1f}".format),
    "specificity": ("healthy: mask is empty", 1, "{:.0%}".format),
}
"""Of what is drawn of operating points: title, end of the axis, and how a number is written."""


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
    picture = np.repeat(case.grey[:, :, None], 3, axis=2).astype(np.float32)
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
        above.imshow(case.grey, cmap="gray", vmin=0, vmax=255)
        above.set_title(f"{case.name}\nDice {dice:.2f}", fontsize=8)
        below.imshow(_overlay(case, mask))
        above.axis("off")
        below.axis("off")
    figure.tight_layout()
    _save(figure, out, dpi=110)


def operating_points(content: dict, out: Path) -> None:
    """Figures of each operating point with their intervals; content: of out_of_fold.collect."""
    points, intervals = content["operating_points"], content["intervals"]
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    grid = figure.subplots(2, 2)
    for axes, (key, (title, most, text)) in zip(grid.flat, POINT_FIGURES.items(), strict=True):
        axes.set_title(title, fontsize=12)
        for row, (name, point) in enumerate(points.items()):
            if key in point:
                value, side = point[key], "left" if point[key] < 0.05 else "center"
                axes.plot(intervals[name][key], [row, row], color="black", linewidth=1.5)
                axes.plot(value, row, "o", color=COLOUR, markersize=8)
                axes.text(value, row - 0.22, text(value), ha=side, va="bottom", fontsize=11)
        axes.set(xlim=(0, most and 1.02 * most), ylim=(len(points) - 0.6, -0.8))
        axes.set_yticks(range(len(points)), points, fontsize=11)
        axes.grid(axis="x", alpha=0.3)
    _save(figure, out, dpi=130)


def reliability_diagram(content: dict, out: Path) -> None:
    """Share of tumour against probability, by tenths of it; content: of reliability.summary."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="grey", label="perfect calibration")
    _, probability, share, intervals = zip(*content["bins"], strict=True)
    below, above = np.abs(np.array(intervals).T - share)
    label = "by tenths, with 95 % intervals"
    axes.errorbar(probability, share, [below, above], fmt="o", color=COLOUR, capsize=3, label=label)
    axes.set(xlabel="mean probability of the pixels", ylabel="share of them that is tumour")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    _save(figure, out, dpi=110)
