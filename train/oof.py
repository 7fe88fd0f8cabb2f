"""What a network says of people it was not trained on, as numbers: one record for each person."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from serve.measure import count_lesions
from train import decision, evaluate
from train.calibration import Calibration, Histograms
from train.dataset import Case
from train.decision import CalibratedScores, Decision, Scores, ThresholdScores
from train.files import write_json

SALT_AND_PEPPER = 0.06


def _speckled(uptake: np.ndarray) -> np.ndarray:
    """Half of SALT_AND_PEPPER of the pixels at 0, half at 255; the same ones in each image size."""
    chance = np.random.default_rng(0).random(uptake.shape)
    uptake = np.where(chance < SALT_AND_PEPPER / 2, 0, uptake)
    return np.where(chance > 1 - SALT_AND_PEPPER / 2, 255, uptake).astype(np.uint8)


# What scorers have done to images, and how a mask is turned back.
VARIANTS: dict[str, tuple[Callable, Callable]] = {
    "left_right": (lambda uptake: uptake[:, ::-1], lambda mask: mask[:, ::-1]),
    "upside_down": (lambda uptake: uptake[::-1], lambda mask: mask[::-1]),
    "half_turn": (lambda uptake: uptake[::-1, ::-1], lambda mask: mask[::-1, ::-1]),
    "salt_and_pepper": (_speckled, lambda mask: mask),
}


def records(
    segmentation: evaluate.Segmentation, held_out: list[Case], device: torch.device
) -> list[dict]:
    """JSON values for each person.

    All: name, height (pixels), area (tumour pixels of the truth). Controls: reached (the
    probability that decision.FEWEST_PIXELS reach). Patients: lesions, dice (at each of
    decision.THRESHOLDS), and for each of VARIANTS the same; under "seen" for all those what
    calibration.Histograms has of one image, and reached.
    """
    rows = []
    for case in tqdm(held_out, desc="held-out people", unit="image", leave=False, disable=None):
        logits = evaluate.tumour_logits(segmentation, case.uptake, device)
        row = {
            "name": case.name,
            "height": case.uptake.shape[0],
            "area": int(case.truth.sum()),
        }
        if case.is_patient:
            seen = {"dice": logits}
            for name, (change, back) in VARIANTS.items():
                changed = np.ascontiguousarray(change(case.uptake))
                seen[name] = back(evaluate.tumour_logits(segmentation, changed, device))
            row["lesions"] = count_lesions(case.truth)
            row |= {name: _dice(of, case) for name, of in seen.items()}
            row["seen"] = {name: _seen(of, case) for name, of in seen.items()}
        else:
            row["reached"] = _rounded_probability(logits)
        rows.append(row)
    return rows


def _dice(logits: np.ndarray, case: Case) -> list[float]:
    return [round(d, 4) for d in decision.dice_by_threshold(logits, case.truth)]


def _rounded_probability(logits: np.ndarray) -> float:
    return round(decision.reached(logits), 8)


def _seen(logits: np.ndarray, case: Case) -> dict:
    of = Histograms.of([(logits, case.truth)])
    return {
        "reached": _rounded_probability(logits),
        "peak": round(float(of.peak[0]), 3),
        "pixels": of.pixels[0].tolist(),
        "tumour": of.tumour[0].tolist(),
    }


def patients_of(rows: list[dict]) -> list[dict]:
    return [row for row in rows if "dice" in row]


def can_be_calibrated(rows: list[dict]) -> bool:
    """Whether the records keep histograms, and of everyone what enough pixels reach."""
    return all("peak" not in row and ("seen" in row or "dice" not in row) for row in rows)


def scores(rows: list[dict], variant: str = "dice") -> Scores:
    """The records as arrays; `variant` is "dice" or one of VARIANTS.

    Records of versions before 0.5.0 are only good for one threshold.
    """
    if not can_be_calibrated(rows):
        return threshold_scores(rows, variant)
    seen = [row["seen"][variant] for row in patients_of(rows)]
    histograms = Histograms.of_records(
        *([of[key] for of in seen] for key in ("pixels", "tumour", "peak"))
    )
    return CalibratedScores(histograms, **_common(rows, variant))


def threshold_scores(rows: list[dict], variant: str = "dice") -> ThresholdScores:
    """The same where all images get one threshold."""
    patients = patients_of(rows)
    return ThresholdScores(
        table=np.array([row[variant] for row in patients]),
        **_common(rows, variant),
    )


def _common(rows: list[dict], variant: str) -> dict[str, np.ndarray]:
    patients = patients_of(rows)
    return {
        "reached": np.array([_reached(row, variant) for row in patients]),
        "blank": np.array([float(row["area"] == 0) for row in patients]),
        "control_reached": np.array([_reached(row) for row in rows if "dice" not in row]),
    }


def _reached(row: dict, variant: str = "dice") -> float:
    """Records of versions before 0.5.0 know of the highest pixel only, of the image as it is."""
    if "peak" in row:
        return row["peak"]
    return row["seen"][variant]["reached"] if "seen" in row else row["reached"]


def write_decision(
    path: Path, decided: Decision, measured: str, view_scales: Sequence[float]
) -> None:
    """What the export needs to draw masks, and how good that was measured to be.

    Only of a calibration, which is right for images seen at these scales.
    """
    numbers = {"calibration": vars(decided.setting), "least_probability": decided.least_probability}
    write_json(path, numbers | {"view_scales": list(view_scales), "measured": measured})


def read_decision(content: dict) -> Decision:
    """What write_decision wrote; raises KeyError, TypeError or ValueError."""
    return Decision(Calibration(**content["calibration"]), float(content["least_probability"]))
