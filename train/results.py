"""All that is measured out of fold, as JSON values."""

import json
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats

from serve import __version__
from train.dataset import FOLDS, Case
from train.lesion_metrics import hausdorff, lesions
from train.measured import Measured, Unseen, standard_error
from train.operating_point import calibrated
from train.provenance import source_commit

FAILURE = 0.1
"""A patient with a Dice below this counts as a failure."""
SIZES = (0, 50, 200, 1000)
"""Fewest pixels of each group of lesions."""
SIZE_LABELS = ("below 50", "50 to 199", "200 to 999", "1000 and more")
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of calibrated probabilities, for the FROC curve."""
RESAMPLES = 2000
TRICKY = {
    "control_050": "cold: neck",
    "control_399": "chemotherapy: bones",
    "control_381": "after a meal: muscles",
    "control_398": "bowel",
}
"""Controls that the challenge's text calls tricky."""


def _interval(values: Sequence[float], others: Sequence[float] | None = None) -> list[float]:
    """The 95 % bootstrap interval of a mean, or of sum(values) / sum(others), over images."""
    if others is None:
        data, statistic = (values,), np.mean
    else:
        data = (values, others)

        def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
            return a.sum(axis=axis) / np.maximum(b.sum(axis=axis), 1)

    if np.ptp(values) == 0 and (others is None or np.ptp(others) == 0):
        mean = float(statistic(*(np.asarray(of, float) for of in data), axis=-1))
        return [round(mean, 4), round(mean, 4)]
    found = stats.bootstrap(
        tuple(np.asarray(of, float) for of in data), statistic, paired=others is not None,
        n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip
    return [round(float(end), 4) for end in found.confidence_interval]


def _records(measured: Measured, masks: dict[str, list[np.ndarray]]) -> dict[str, dict[str, dict]]:
    """Numbers of each image, by group and name."""
    records: dict[str, dict[str, dict]] = {"patients": {}, "controls": {}}
    dice = {name: iter(measured.dice(of)) for name, of in masks.items()}
    for i, case in enumerate(measured.cases):
        drawn = masks[measured.default][i]
        sizes, found, wrong = lesions(case.truth, drawn)
        record = {"fold": measured.unseen.fold(case), "hash": measured.unseen.hashes[case.name]}
        record["pixels"] = {name: int(of[i].sum()) for name, of in masks.items()}
        if case.is_patient:
            distance = hausdorff(case.truth, drawn)
            record["dice"] = {name: round(float(next(of)), 4) for name, of in dice.items()}
            record |= {"lesions": sizes, "found": [int(f) for f in found]}
            record["hausdorff_95"] = None if distance is None else round(distance, 2)
        record["false_positive_lesions"] = wrong
        records["patients" if case.is_patient else "controls"][case.name] = record
    return records


def _froc(cases: list[Case], masks: list[np.ndarray]) -> dict[str, float]:
    """Per-lesion sensitivity, and false-positive lesions per image of patients and controls."""
    found, wrong = [], {True: [], False: []}
    for case, drawn in zip(cases, masks, strict=True):
        _, hits, more = lesions(case.truth, drawn)
        found += hits
        wrong[case.is_patient].append(more)
    rates = {"patients": wrong[True], "controls": wrong[False]}
    means = {
        f"per_image_of_{name}": round(float(np.mean(of)), 4) for name, of in rates.items() if of
    }
    return {"sensitivity": round(float(np.mean(found)), 4) if found else 0.0, **means}


def _at_threshold(measured: Measured, threshold: float) -> list[np.ndarray]:
    pairs = zip(measured.logits, measured.nested, strict=True)
    return [
        (calibrated(torch.from_numpy(logits), points.calibration) > threshold).numpy()
        for logits, points in pairs
    ]


def _figures(records: dict[str, dict], default: str) -> dict:
    """Summaries of the patients' records at the default operating point."""
    rows = list(records.values())
    dice = np.array([row["dice"][default] for row in rows])
    found = [sum(row["found"]) for row in rows]
    count = [len(row["found"]) for row in rows]
    distances = [row["hausdorff_95"] for row in rows if row["hausdorff_95"] is not None]
    sizes = np.concatenate([row["lesions"] for row in rows])
    hits = np.concatenate([row["found"] for row in rows])
    wrong = [row["false_positive_lesions"] for row in rows]
    group = np.searchsorted(SIZES, sizes, side="right") - 1
    return {
        "patients": len(rows),
        "dice": [round(float(dice.mean()), 4), _interval(dice)],
        "dice_median": round(float(np.median(dice)), 4),
        "failures": int((dice < FAILURE).sum()),
        "lesion_sensitivity": [round(sum(found) / max(1, sum(count)), 4), _interval(found, count)],
        "false_positive_lesions_per_patient": [round(float(np.mean(wrong)), 4), _interval(wrong)],
        "hausdorff_95_median": [round(float(np.median(distances)), 2), len(distances)]
        if distances
        else None,
        "lesion_sensitivity_by_pixels": {
            label: [round(float(hits[group == i].mean()), 4), int((group == i).sum())]
            for i, label in enumerate(SIZE_LABELS)
            if (group == i).any()
        },
    }


def _averaging(measured: Measured) -> dict[str, list[float]]:
    """Of each seed, where there are several: its Dice, and what the average of all seeds gains, at
    the seed's operating point, with the standard error."""
    members = measured.unseen.members
    seeds = sorted({member.identity["seed"] for member in members}, key=str)
    table = {}
    for seed in seeds if len(seeds) > 1 else ():
        chosen = [member for member in members if member.identity["seed"] == seed]
        alone = Measured(Unseen(chosen, measured.cases))
        if [c.name for c in alone.cases] != [c.name for c in measured.cases]:
            continue  # a seed without all folds
        name = alone.default
        own = alone.dice(alone.masks(name))
        pairs = zip(measured.logits, alone.nested, strict=True)
        average = measured.dice([points.mask(logits, name) for logits, points in pairs])
        gain = average - own
        numbers = (own.mean(), gain.mean(), standard_error(gain))
        table[str(seed)] = [round(float(x), 4) for x in numbers]
    return table


def collect(measured: Measured, fingerprint: str) -> dict:
    """All that is written; fingerprint: of the data."""
    masks = {name: measured.masks(name) for name in measured.names}
    records = _records(measured, masks)
    patients = records["patients"]
    default = measured.default
    by_fold = {
        str(fold): np.array([r["dice"][default] for r in patients.values() if r["fold"] == fold])
        for fold in range(FOLDS)
    }
    return {
        "version": __version__,
        "measuring_commit": source_commit("train", "serve"),
        "data_fingerprint": fingerprint,
        "members": [member.identity for member in measured.unseen.members],
        "calibration": vars(measured.points.calibration),
        "operating_point": default,
        "operating_points": measured.figures(),
        "figures": _figures(patients, default),
        "dice_by_fold": {
            fold: [round(float(of.mean()), 4), round(standard_error(of), 4), len(of)]
            for fold, of in by_fold.items()
            if len(of) > 1
        },
        "averaging": _averaging(measured),
        "robustness": measured.robustness(),
        "froc": {
            "operating_points": {n: _froc(measured.cases, of) for n, of in masks.items()},
            "thresholds": {
                str(t): _froc(measured.cases, _at_threshold(measured, t)) for t in THRESHOLDS
            },
        },
        "tricky_controls": {
            name: [why, records["controls"][name]["pixels"]]
            for name, why in TRICKY.items()
            if name in records["controls"]
        },
        **records,
    }


def as_json(content: dict) -> str:
    """One line for each image and for each other number."""
    lines = []
    for key, value in content.items():
        if key in ("patients", "controls"):
            inside = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inside}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
