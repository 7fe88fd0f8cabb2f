"""What was measured on each image, and what that is on average."""

from collections.abc import Sequence

import numpy as np

from train.dataset import Case
from train.fitting import DEFAULT
from train.statistics import interval, mean_and_error
from tumour_segmenter import contract
from tumour_segmenter.lesions import FAILURE, compare, hausdorff

SIZES = {0: "below 50", 50: "50 to 199", 200: "200 to 999", 1000: "1000 and more"}
"""Groups of lesions by their fewest pixels."""
Records = dict[str, dict[str, dict]]
"""JSON values by group, "patients" or "controls", and name of the image."""


def of(
    cases: Sequence[Case], folds: Sequence[int | None], masks: dict[str, list[np.ndarray]]
) -> Records:
    """masks: by operating point, bool H×W of each case. Of each image: fold, hash, and by operating
    point pixels and false_lesions; of patients also lesions (the pixels of each), hausdorff_95, at
    the default operating point, and by operating point dice and found (1 for each lesion found)."""
    found: Records = {"patients": {}, "controls": {}}
    for i, case in enumerate(cases):
        drawn = {name: of_all[i] for name, of_all in masks.items()}
        compared = {name: compare(case.truth, mask) for name, mask in drawn.items()}
        record = {"fold": folds[i], "hash": case.hash}
        record["pixels"] = {name: int(mask.sum()) for name, mask in drawn.items()}
        record["false_lesions"] = {name: of.false_lesions for name, of in compared.items()}
        if case.is_patient:
            distance = hausdorff(case.truth, drawn[DEFAULT])
            record["dice"] = {
                name: round(contract.dice(case.truth, mask), 4) for name, mask in drawn.items()
            }
            record["lesions"] = list(compared[DEFAULT].sizes)
            record["found"] = {name: [*map(int, of.found)] for name, of in compared.items()}
            record["hausdorff_95"] = None if distance is None else round(distance, 2)
        found["patients" if case.is_patient else "controls"][case.name] = record
    return found


def summary(records: Records, name: str) -> dict[str, float]:
    """Of an operating point: dice, dice_standard_error, lesion_sensitivity and
    false_lesions_per_patient; with controls also specificity and false_lesions_per_control."""
    patients, controls = (list(records[group].values()) for group in ("patients", "controls"))
    dice, error = mean_and_error([row["dice"][name] for row in patients])
    hits = [hit for row in patients for hit in row["found"][name]]
    figures = {
        "dice": dice,
        "dice_standard_error": error,
        "lesion_sensitivity": _mean(hits or [0]),
        "false_lesions_per_patient": _mean([row["false_lesions"][name] for row in patients]),
    }
    if controls:
        empty = [row["pixels"][name] == 0 for row in controls]
        figures["specificity"] = _mean(empty)
        wrong = [row["false_lesions"][name] for row in controls]
        figures["false_lesions_per_control"] = _mean(wrong)
    return figures


def intervals(records: Records, name: str) -> dict[str, list[float]]:
    """95 % bootstrap intervals, over people, of the figures of `summary` that are means."""
    patients, controls = (list(records[group].values()) for group in ("patients", "controls"))
    found = [row["found"][name] for row in patients]
    ends = {
        "dice": interval([row["dice"][name] for row in patients]),
        "lesion_sensitivity": interval([sum(of) for of in found], [len(of) for of in found]),
        "false_lesions_per_patient": interval([row["false_lesions"][name] for row in patients]),
    }
    if controls:
        ends["specificity"] = interval([row["pixels"][name] == 0 for row in controls])
        wrong = [row["false_lesions"][name] for row in controls]
        ends["false_lesions_per_control"] = interval(wrong)
    return ends


def more_figures(records: Records) -> dict:
    """What else is told of the default operating point."""
    rows = list(records["patients"].values())
    dice = [row["dice"][DEFAULT] for row in rows]
    distances = [row["hausdorff_95"] for row in rows if row["hausdorff_95"] is not None]
    hits = np.concatenate([row["found"][DEFAULT] for row in rows])
    sizes = np.concatenate([row["lesions"] for row in rows])
    group = np.searchsorted(list(SIZES), sizes, side="right") - 1
    return {
        "patients": len(rows),
        "dice_median": round(float(np.median(dice)), 4),
        "failures": sum(of_one < FAILURE for of_one in dice),
        "hausdorff_95_median": (
            [round(float(np.median(distances)), 2), len(distances)] if distances else None
        ),
        "lesion_sensitivity_by_pixels": {
            label: [_mean(hits[group == i]), int((group == i).sum())]
            for i, label in enumerate(SIZES.values())
            if (group == i).any()
        },
    }


def dice_by_fold(records: Records) -> dict[str, list[float]]:
    """Of each fold with several patients, at the default operating point: Dice, its standard error
    and the number of patients."""
    folds: dict[int, list[float]] = {}
    for row in records["patients"].values():
        if row["fold"] is not None:
            folds.setdefault(row["fold"], []).append(row["dice"][DEFAULT])
    several = sorted((fold, dice) for fold, dice in folds.items() if len(dice) > 1)
    return {str(fold): [*mean_and_error(dice), len(dice)] for fold, dice in several}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
