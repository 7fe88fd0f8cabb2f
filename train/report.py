"""What a run writes for people and for the export: log, previews, figures of the held-out."""

import csv
import json
from pathlib import Path

import numpy as np

from train import decision, evaluate, figures
from train.dataset import Case
from train.files import replacing
from train.run import Run

PREVIEWS = 8
LOG_COLUMNS = (
    "epoch",
    "minutes",
    "learning_rate",
    "train_loss",
    "dice_mean",
    "dice_median",
    "missed",
)


def write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def log_row(run: Run, loss: float, dice: dict[str, float]) -> dict:
    values = np.array(list(dice.values()))
    return {
        "epoch": run.epoch,
        "minutes": f"{run.seconds / 60:.2f}",
        "learning_rate": f"{run.optimiser.param_groups[0]['lr']:.2e}",
        "train_loss": f"{loss:.4f}",
        "dice_mean": f"{values.mean():.4f}" if len(values) else "",
        "dice_median": f"{np.median(values):.4f}" if len(values) else "",
        "missed": int((values < evaluate.MISSED).sum()) if len(values) else "",
    }


def preview(run: Run, cases: list[Case], dice: dict[str, float]) -> None:
    by_area = sorted((c for c in cases if c.is_patient), key=lambda c: c.truth.sum())
    chosen = [by_area[i] for i in np.linspace(0, len(by_area) - 1, PREVIEWS).astype(int)]
    masks = run.predict(chosen)
    figures.preview_sheet(
        [
            (
                f"{c.name}" + (f"  Dice {dice[c.name]:.2f}" if c.name in dice else ""),
                c,
                masks[c.name] > evaluate.THRESHOLD,
            )
            for c in chosen
        ],
        run.out / "preview.png",
    )


def held_out_figures(run: Run, held_out: list[Case]) -> None:
    """Write what the final network says of everyone it was not trained on."""
    probabilities = run.predict(held_out)
    with replacing(run.out / "held_out.npz") as partial:
        np.savez_compressed(
            partial, **{k: (v * 255).round().astype(np.uint8) for k, v in probabilities.items()}
        )
    patients = [c for c in held_out if c.is_patient]
    dice = np.array([decision.dice_by_threshold(probabilities[c.name], c.truth) for c in patients])
    threshold = decision.best_threshold(dice)
    nested = decision.nested_dice(dice)
    dice_of = dict(zip((c.name for c in patients), nested, strict=True))
    masks = {name: probability > threshold for name, probability in probabilities.items()}
    rows = [
        {
            "name": c.name,
            "height": c.truth.shape[0],
            "lesion_area": int(c.truth.sum()),
            "predicted_area": int(masks[c.name].sum()),
            "dice": f"{dice_of[c.name]:.4f}" if c.name in dice_of else "",
        }
        for c in held_out
    ]
    write_csv(run.out / "held_out.csv", tuple(rows[0]), rows)
    with replacing(run.out / "threshold.json") as partial:
        partial.write_text(json.dumps({"threshold": threshold}) + "\n")
    empty = [not masks[c.name].any() for c in held_out if not c.is_patient]
    print(
        f"held-out patients: {len(nested)}, Dice mean {nested.mean():.4f}, "
        f"median {np.median(nested):.4f}, missed (< {evaluate.MISSED}) "
        f"{int((nested < evaluate.MISSED).sum())}, at thresholds chosen on the others; "
        f"threshold {threshold}"
        + (f"; {np.mean(empty):.0%} of controls are empty" if empty else "")
    )
