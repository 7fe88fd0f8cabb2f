"""What a network says of people it was not trained on, as numbers: one record for each person."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from serve.measure import count_lesions
from train import decision, evaluate
from train.dataset import Case
from train.decision import ADAPTED, FIXED, Decision, Rule, Scores
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

    All: name, height (pixels), area (tumour pixels of the truth), peak (highest probability).
    Patients: lesions, dice (at each setting of decision.FIXED), and for each of VARIANTS the same;
    under "adapted" all those at each setting of decision.ADAPTED.
    """
    rows = []
    for case in tqdm(held_out, desc="held-out people", unit="image", leave=False, disable=None):
        logits = evaluate.tumour_logits(segmentation, case.uptake, device)
        row = {
            "name": case.name,
            "height": case.uptake.shape[0],
            "area": int(case.truth.sum()),
            "peak": round(decision.peak(logits), 4),
        }
        if case.is_patient:
            seen = {"dice": logits}
            for name, (change, back) in VARIANTS.items():
                changed = np.ascontiguousarray(change(case.uptake))
                seen[name] = back(evaluate.tumour_logits(segmentation, changed, device))
            row["lesions"] = count_lesions(case.truth)
            row |= {name: _dice(of, case, FIXED) for name, of in seen.items()}
            row["adapted"] = {name: _dice(of, case, ADAPTED) for name, of in seen.items()}
        rows.append(row)
    return rows


def _dice(logits: np.ndarray, case: Case, rule: Rule) -> list[float]:
    return [round(d, 4) for d in decision.dice_by_setting(logits, case.truth, rule)]


def patients_of(rows: list[dict]) -> list[dict]:
    return [row for row in rows if "dice" in row]


def rule_of(rows: list[dict]) -> Rule:
    """The adapted rule, but of records of versions before 0.3.0 the fixed one."""
    return ADAPTED if all("adapted" in row for row in patients_of(rows)) else FIXED


def scores(rows: list[dict], rule: Rule, variant: str = "dice") -> Scores:
    """The records as arrays; `variant` is "dice" or one of VARIANTS."""
    patients = patients_of(rows)
    return Scores(
        rule=rule,
        dice=np.array([(row["adapted"] if rule.adapted else row)[variant] for row in patients]),
        peak=np.array([row["peak"] for row in patients]),
        blank=np.array([float(row["area"] == 0) for row in patients]),
        control_peak=np.array([row["peak"] for row in rows if "dice" not in row]),
    )


def write_decision(path: Path, rule: Rule, decided: Decision, measured: str) -> None:
    """What the export needs to draw masks, and how good that was measured to be."""
    numbers = {rule.name: decided.setting, "least_peak": decided.least_peak}
    write_json(path, numbers | {"measured": measured})
