"""Measure networks on images that they were not trained on.

    python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts

Each image is predicted by the networks of --weights that were not trained on it, averaged where
there are several. Calibration and operating points are nested: those that an image is measured at
are fitted on the images of the other folds. Writes out_of_fold.json, RESULTS.md and
out_of_fold.png. Exit codes: 0 done, 1 a file could not be written, 2 bad input, 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train import cli, dataset, plots, results_page
from train.dataset import FOLDS, Case
from train.lesion_metrics import FAILURE, hausdorff, lesions
from train.measured import Measured, Unseen, load_members, mean_and_error
from train.weights import source_commit
from tumour_segmenter import __version__, contract, files

SIZES = {0: "below 50", 50: "50 to 199", 200: "200 to 999", 1000: "1000 and more"}
"""Groups of lesions by their fewest pixels."""
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # for the FROC curve
RESAMPLES = 2000
TRICKY = {  # controls that the challenge's text calls tricky
    "control_050": "cold: neck",
    "control_399": "chemotherapy: bones",
    "control_381": "after a meal: muscles",
    "control_398": "bowel",
}


def _interval(values: Sequence[float], counts: Sequence[float] | None = None) -> list[float]:
    """The 95 % bootstrap interval, over images, of sum(values) / sum(counts), or of the mean."""
    values, counts = np.array(values), np.array(counts or [1] * len(values))
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    ratios = values[drawn].sum(axis=1) / np.maximum(counts[drawn].sum(axis=1), 1)
    return [round(float(end), 4) for end in np.percentile(ratios, (2.5, 97.5))]


def _records(measured: Measured, masks: dict[str, list[np.ndarray]]) -> dict[str, dict[str, dict]]:
    """Numbers of each image, by group and name."""
    records: dict[str, dict[str, dict]] = {"patients": {}, "controls": {}}
    for i, case in enumerate(measured.cases):
        drawn = masks[measured.default][i]
        sizes, found, wrong = lesions(case.truth, drawn)
        record = {"fold": measured.unseen.fold(case), "hash": measured.unseen.hashes[case.name]}
        record["pixels"] = {name: int(of[i].sum()) for name, of in masks.items()}
        if case.is_patient:
            dice = {name: contract.dice(case.truth, of[i]) for name, of in masks.items()}
            distance = hausdorff(case.truth, drawn)
            record["dice"] = {name: round(of, 4) for name, of in dice.items()}
            record |= {"lesions": sizes, "found": [int(f) for f in found]}
            record["hausdorff_95"] = None if distance is None else round(distance, 2)
        record["false_positive_lesions"] = wrong
        records["patients" if case.is_patient else "controls"][case.name] = record
    return records


def _froc(cases: list[Case], masks: list[np.ndarray]) -> dict[str, float]:
    """Per-lesion sensitivity, and false-positive lesions per image of patients and controls."""
    found, wrong = [], {"patients": [], "controls": []}
    for case, drawn in zip(cases, masks, strict=True):
        _, hits, more = lesions(case.truth, drawn)
        found += hits
        wrong["patients" if case.is_patient else "controls"].append(more)
    rates = {f"per_image_of_{name}": of for name, of in wrong.items() if of}
    means = {"sensitivity": found or [0.0]} | rates
    return {name: round(float(np.mean(of)), 4) for name, of in means.items()}


def _figures(records: dict[str, dict], default: str) -> dict:
    """Summaries of the patients' records at the default operating point."""
    rows = list(records.values())
    dice = [row["dice"][default] for row in rows]
    found, count = [sum(row["found"]) for row in rows], [len(row["found"]) for row in rows]
    distances = [row["hausdorff_95"] for row in rows if row["hausdorff_95"] is not None]
    median = [round(float(np.median(distances)), 2), len(distances)] if distances else None
    hits = np.concatenate([row["found"] for row in rows])
    sizes = np.concatenate([row["lesions"] for row in rows])
    group = np.searchsorted(list(SIZES), sizes, side="right") - 1
    wrong = [row["false_positive_lesions"] for row in rows]
    return {
        "patients": len(rows),
        "dice": [round(float(np.mean(dice)), 4), _interval(dice)],
        "dice_median": round(float(np.median(dice)), 4),
        "failures": sum(of < FAILURE for of in dice),
        "lesion_sensitivity": [round(sum(found) / max(1, sum(count)), 4), _interval(found, count)],
        "false_positive_lesions_per_patient": [round(float(np.mean(wrong)), 4), _interval(wrong)],
        "hausdorff_95_median": median,
        "lesion_sensitivity_by_pixels": {
            label: [round(float(hits[group == i].mean()), 4), int((group == i).sum())]
            for i, label in enumerate(SIZES.values())
            if (group == i).any()
        },
    }


def _averaging(measured: Measured) -> dict[str, list[float]]:
    """Of each seed, where there are several: its Dice, and what the average of all seeds gains, at
    the seed's operating point, with the standard error."""
    members = measured.unseen.members
    seeds = sorted({member.identity["seed"] for member in members})
    table = {}
    for seed in seeds if len(seeds) > 1 else ():
        chosen = [member for member in members if member.identity["seed"] == seed]
        alone = Measured(Unseen(chosen, measured.cases))
        if len(alone.cases) == len(measured.cases):  # a seed of all folds
            own = alone.dice(alone.masks(alone.default))
            alone.logits = measured.logits
            gain = alone.dice(alone.masks(alone.default)) - own
            table[str(seed)] = [round(float(own.mean()), 4), *mean_and_error(gain)]
    return table


def collect(measured: Measured, fingerprint: str) -> dict:
    """All that is written; fingerprint: of the data."""
    masks = {name: measured.masks(name) for name in measured.names}
    records = _records(measured, masks)
    patients, default = records["patients"], measured.default
    by_fold = {
        str(fold): np.array([r["dice"][default] for r in patients.values() if r["fold"] == fold])
        for fold in range(FOLDS)
    }
    at = {str(threshold): measured.above(threshold) for threshold in THRESHOLDS}
    return {
        "version": __version__,
        "measuring_commit": source_commit("train", "tumour_segmenter"),
        "data_fingerprint": fingerprint,
        "members": [member.identity for member in measured.unseen.members],
        "calibration": vars(measured.points.calibration),
        "operating_point": default,
        "operating_points": measured.figures(),
        "figures": _figures(patients, default),
        "dice_by_fold": {
            fold: [*mean_and_error(of), len(of)] for fold, of in by_fold.items() if len(of) > 1
        },
        "averaging": _averaging(measured),
        "robustness": measured.robustness(),
        "froc": {
            "operating_points": {name: _froc(measured.cases, of) for name, of in masks.items()},
            "thresholds": {name: _froc(measured.cases, of) for name, of in at.items()},
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


def _parser() -> argparse.ArgumentParser:
    usage = {"prog": "python -m train.out_of_fold", "description": __doc__.split("\n")[0]}
    parser = argparse.ArgumentParser(**usage)
    cli.add_weights(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    members = load_members(arguments.weights)
    outputs = [arguments.out / f for f in ("out_of_fold.json", "RESULTS.md", "out_of_fold.png")]
    files.check_outputs([member.path for member in members], outputs)
    cases = dataset.load(arguments.data)
    unseen = Unseen(members, cases)
    print(
        f"networks: {len(members)}; of {len(cases)} images {len(unseen.cases)} are unseen by at "
        f"least one: {unseen.patient.sum()} patients, {(~unseen.patient).sum()} controls"
    )
    content = collect(Measured(unseen), dataset.fingerprint(cases))
    arguments.out.mkdir(parents=True, exist_ok=True)
    files.write(outputs[0], as_json(content))
    text = results_page.as_markdown(content)
    files.write(outputs[1], text)
    plots.froc_curve(content["froc"], outputs[2])
    print(text)
    print(*(f"written: {path}" for path in outputs), sep="\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    return cli.exit_code(lambda: _run(_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
