"""Measure networks on images that they were not trained on.

    python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts

Each image is predicted by the networks of --weights that were not trained on it, averaged where
there are several. Calibration and operating points are nested: those that an image is measured at
are fitted on the images of the other folds. Writes out_of_fold.json, RESULTS.md and the pictures
operating_points.png and reliability.png. Exit codes: 0 done, 1 a file could not be written, 2 bad
input, 130 interrupted.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from train import cli, dataset, plots, records, reliability, results_page
from train.fitting import DEFAULT
from train.measured import Measured
from train.members import load_members
from train.operating_point import OperatingPoint
from train.statistics import mean_and_error
from train.weights import source_commit
from tumour_segmenter import __version__, contract, files
from tumour_segmenter.lesions import compare

FACTORS = (1.5, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2)  # on the threshold, with no mask emptied
TRICKY = {  # controls that the challenge's text calls tricky
    "control_050": "cold: neck",
    "control_399": "chemotherapy: bones",
    "control_381": "after a meal: muscles",
    "control_398": "bowel",
}
LOCKED = "locked_test_set.json"  # where --out has it, the page shows it: figures of a shipped file
OUTPUTS = ("out_of_fold.json", "RESULTS.md", "operating_points.png", "reliability.png")


def _patients(measured: Measured, masks: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and mask of each patient, bool H×W."""
    pairs = zip(measured.cases, masks, strict=True)
    return [(case.truth, mask) for case, mask in pairs if case.is_patient]


def _factors(measured: Measured) -> dict[str, list[float]]:
    """By threshold factor: Dice, lesion sensitivity, false-positive lesions per patient."""
    table = {}
    for factor in FACTORS:
        pairs = _patients(measured, measured.masks(OperatingPoint(0.0, factor)))
        dice = [contract.dice(*pair) for pair in pairs]
        compared = [compare(*pair) for pair in pairs]
        hits = [hit for of in compared for hit in of.found]
        figures = (dice, hits or [0], [of.false_lesions for of in compared])
        table[f"{factor:g}"] = [round(float(np.mean(of)), 4) for of in figures]
    return table


def _reliability(measured: Measured) -> dict:
    """Of the patients' pixels, by nested calibration."""
    counted = []
    of_all = zip(measured.cases, measured.logits, measured.nested, strict=True)
    for case, logits, points in of_all:
        if case.is_patient:
            counted.append(reliability.counts(points.probability(logits), case.truth))
    return reliability.summary(counted)


def _averaging(measured: Measured) -> dict[str, list[float]]:
    """Of each seed, where there are several: its Dice, and what the average of all seeds gains, at
    the seed's operating point, with the standard error."""
    seeds = sorted({member.identity["seed"] for member in measured.members})
    table = {}
    for seed in seeds if len(seeds) > 1 else ():
        chosen = [member for member in measured.members if member.identity["seed"] == seed]
        alone = Measured(chosen, measured.cases)
        if len(alone.cases) < len(measured.cases):  # not a seed of all folds
            continue
        own, average = (
            np.array([contract.dice(*pair) for pair in _patients(alone, masks)])
            for masks in (alone.masks(DEFAULT), alone.masks_of(measured.logits, DEFAULT))
        )
        table[str(seed)] = [round(float(own.mean()), 4), *mean_and_error(average - own)]
    return table


def collect(measured: Measured, fingerprint: str) -> dict:
    """All that is written; fingerprint: of the data."""
    of_images, names = measured.records, measured.points.named
    return {
        "version": __version__,
        "measuring_commit": source_commit("train", "tumour_segmenter"),
        "data_fingerprint": fingerprint,
        "members": [member.identity for member in measured.members],
        "calibration": vars(measured.points.calibration),
        "operating_point": DEFAULT,
        "operating_points": measured.table(),
        "intervals": {name: records.intervals(of_images, name) for name in names},
        "figures": records.more_figures(of_images),
        "dice_by_fold": records.dice_by_fold(of_images),
        "threshold_factors": _factors(measured),
        "reliability": _reliability(measured),
        "averaging": _averaging(measured),
        "robustness": measured.robustness(),
        "tricky_controls": {
            name: [why, of_images["controls"][name]["pixels"]]
            for name, why in TRICKY.items()
            if name in of_images["controls"]
        },
        **of_images,
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
    outputs = [arguments.out / name for name in OUTPUTS]
    files.check_outputs([member.path for member in members], outputs)
    cases = dataset.load(arguments.data)
    measured = Measured(members, cases)
    patients = int(measured.is_patient.sum())
    print(
        f"networks: {len(members)}; of {len(cases)} images {len(measured.cases)} are unseen by at "
        f"least one: {patients} patients, {len(measured.cases) - patients} controls"
    )
    content = collect(measured, dataset.fingerprint(cases))
    locked = arguments.out / LOCKED
    found = json.loads(locked.read_text()) if locked.exists() else None
    text = results_page.as_markdown(content, found)
    arguments.out.mkdir(parents=True, exist_ok=True)
    numbers, page, points, diagram = outputs
    files.write(numbers, as_json(content))
    files.write(page, text)
    plots.operating_points(content, points)
    plots.reliability_diagram(content["reliability"], diagram)
    print(text)
    print(*(f"written: {path}" for path in outputs), sep="\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    return cli.exit_code(lambda: _run(_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
