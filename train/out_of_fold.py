"""Measure networks on images that they were not trained on.

    python -m train.out_of_fold --weights artifacts/weights --data DIR --out artifacts

Each image is predicted by the networks of --weights that were not trained on it, averaged where
there are several. Calibration and operating points are nested: those that an image is measured at
are fitted on the images of the other folds. Writes out_of_fold.json, RESULTS.md and
out_of_fold.png. Exit codes: 0 done, 1 a file could not be written, 2 bad input, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

from serve import files
from train import cli, dataset, plots, results_page
from train.measured import Measured, Unseen, load_members
from train.results import as_json, collect

JSON, TABLES, PLOT = "out_of_fold.json", "RESULTS.md", "out_of_fold.png"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.out_of_fold", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--weights", type=Path, nargs="+", required=True, metavar="PATH",
        help="safetensors files of train.fit, or folders of them",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    members = load_members(arguments.weights)
    outputs = [arguments.out / name for name in (JSON, TABLES, PLOT)]
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
    for path in outputs:
        print(f"written: {path}")
    return 0


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return cli.exit_code(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main())
