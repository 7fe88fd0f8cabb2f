"""Pictures of a run: learning curves and a sheet of previews."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from train.dataset import Case
from train.files import read_csv, replacing

matplotlib.use("Agg")
from matplotlib import pyplot as plt

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (0, 160, 60), (220, 40, 40), (40, 80, 230)
CAPTION_HEIGHT = 16
PREVIEW_COLUMNS = 4


def learning_curves(log: Path, out: Path) -> None:
    """Draw loss and held-out Dice over the epochs of a CSV log into the PNG `out`."""
    rows = read_csv(log)
    epochs = [int(row["epoch"]) for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    left.plot(epochs, [float(row["train_loss"]) for row in rows])
    left.set(xlabel="epoch", ylabel="training loss (BCE + Dice)")
    held_out = [(e, row) for e, row in zip(epochs, rows, strict=True) if row["dice_mean"]]
    for column in ("dice_mean", "dice_median"):
        right.plot(
            [e for e, _ in held_out], [float(row[column]) for _, row in held_out], label=column
        )
    right.set(xlabel="epoch", ylabel="Dice of held-out patients", ylim=(0, 1))
    if held_out:
        right.legend()
    with replacing(out) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def overlay(uptake: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """uint8 H×W uptake and two bool H×W masks -> uint8 H×W×3.

    True positives are green, false positives red, false negatives blue.
    """
    picture = np.repeat((255 - uptake)[:, :, None], 3, axis=2).astype(np.float32)
    for mask, colour in (
        (truth & prediction, TRUE_POSITIVE),
        (~truth & prediction, FALSE_POSITIVE),
        (truth & ~prediction, FALSE_NEGATIVE),
    ):
        picture[mask] = 0.3 * picture[mask] + 0.7 * np.array(colour)
    return picture.astype(np.uint8)


def preview_sheet(previews: list[tuple[str, Case, np.ndarray]], out: Path) -> None:
    """Input, truth and prediction of each (caption, case, bool H×W mask) side by side as a PNG."""
    tiles = []
    for caption, case, mask in previews:
        grey = np.repeat((255 - case.uptake)[:, :, None], 3, axis=2)
        truth = overlay(case.uptake, case.truth, case.truth)
        tile = np.concatenate([grey, truth, overlay(case.uptake, case.truth, mask)], axis=1)
        tiles.append((caption, tile))
    width = max(tile.shape[1] for _, tile in tiles)
    height = max(tile.shape[0] for _, tile in tiles) + CAPTION_HEIGHT
    columns = min(PREVIEW_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, tile) in enumerate(tiles):
        left, top = i % columns * width, i // columns * height
        draw.text((left + 4, top + 2), caption, fill="black")
        sheet.paste(Image.fromarray(tile), (left, top + CAPTION_HEIGHT))
    with replacing(out) as partial:
        sheet.save(partial)
