"""What a run writes for people and for the export: log, previews, figures of the held-out."""

import numpy as np

from train import decision, evaluate, figures, oof
from train.dataset import Case
from train.files import write_json
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


def log_row(run: Run, loss: float, dice: dict[str, float]) -> dict:
    values = np.array(list(dice.values()))
    return {
        "epoch": run.epoch,
        "minutes": f"{run.seconds / 60:.2f}",
        "learning_rate": f"{run.optimiser.param_groups[-1]['lr']:.2e}",
        "train_loss": f"{loss:.4f}",
        "dice_mean": f"{values.mean():.4f}" if len(values) else "",
        "dice_median": f"{np.median(values):.4f}" if len(values) else "",
        "missed": int((values < evaluate.MISSED).sum()) if len(values) else "",
    }


def preview(run: Run, cases: list[Case], dice: dict[str, float]) -> None:
    by_area = sorted((c for c in cases if c.is_patient), key=lambda c: c.truth.sum())
    chosen = [by_area[i] for i in np.linspace(0, len(by_area) - 1, PREVIEWS).astype(int)]
    logits = run.predict(chosen)
    figures.preview_sheet(
        [
            (
                f"{c.name}" + (f"  Dice {dice[c.name]:.2f}" if c.name in dice else ""),
                c,
                logits[c.name] > 0,
            )
            for c in chosen
        ],
        run.out / "preview.png",
    )


def held_out_figures(run: Run, held_out: list[Case]) -> None:
    """Write what the final network says of everyone it was not trained on, and what to decide."""
    rows = oof.records(run.segmentation(), held_out, run.device)
    scores = oof.scores(rows)
    decided, nested = decision.choose(scores), decision.nested_dice(scores)
    measured = (
        f"mean {nested.mean():.4f}, median {np.median(nested):.4f}, below {evaluate.MISSED}: "
        f"{(nested < evaluate.MISSED).sum()} of {len(nested)} held-out patients"
    )
    write_json(run.out / "held_out.json", rows)
    oof.write_decision(run.out / "decision.json", decided, measured, run.config.view_scales)
    empty = decision.empty(scores, decided)
    print(
        f"Dice {measured}, each at the decision best for the others; "
        f"{decided.setting}, least probability {decided.least_probability}"
        + (f"; {empty:.0%} of controls are empty" if empty is not None else "")
    )
