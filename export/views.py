"""What is it worth to see an image larger, or its mirror image too?
`python -m export.views --data DIR --run runs/NAME/fold-0 [--run ...]`.

Lets the networks of finished runs see the patients whom they held out in several sets of views, and
writes artifacts/VIEWS.md; the setting `view_scale` is chosen from it. Exit codes: 0 written, 2 bad
input, 130 interrupted.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from export.run import load_run
from train import dataset, decision, evaluate
from train.calibration import Histograms
from train.dataset import Case
from train.decision import CalibratedScores
from train.files import replacing

SETS: dict[str, evaluate.Views] = {
    "as it is": ((1.0, False),),
    "as it is, and its mirror image": ((1.0, False), (1.0, True)),
    "a quarter larger": ((1.25, False),),
    "as it is, and mirrored a quarter larger": ((1.0, False), (1.25, True)),
    "a quarter larger, and its mirror image": ((1.25, False), (1.25, True)),
    "as it is, and mirrored half larger": ((1.0, False), (1.5, True)),
    "as it is and a quarter larger, each with its mirror image": (
        (1.0, False),
        (1.0, True),
        (1.25, False),
        (1.25, True),
    ),
}

_HEAD = """# Views

Written by `python -m export.views`; not edited by hand. Mean Dice of patients whom the networks
held out, each by the calibration of the others, in several sets of views whose logits
are averaged. An image that comes mirrored is seen in the same views, mirrored: where they differ,
both columns measure the same choice, and their mean is the better estimate. Work is in passes over
an image as it is.
"""


@torch.no_grad()
def see(
    run: Path, cases: list[Case]
) -> tuple[list[Case], list[dict[evaluate.View, np.ndarray]], evaluate.Views]:
    """The patients whom a run held out, float32 H×W logits of each by view, and the run's views."""
    segmentation, config, folds = load_run(run)
    held_out = [c for c in cases if c.is_patient and folds["folds"].get(c.name) == config.fold]
    if len(held_out) < 2:
        raise ValueError(f"{run}: held {len(held_out)} patients out, expected 2 or more")
    scales = sorted({scale for views in SETS.values() for scale, _ in views})
    logits = []
    for case in tqdm(held_out, desc=run.name, unit="patient", leave=False, disable=None):
        image = torch.from_numpy(case.uptake).float()[None, None] / 255
        body, _, first, last = segmentation.prepare(image)
        body = body[..., int(first) : int(last)]
        beside = (int(first), image.shape[3] - int(last))
        views = {}
        for view in itertools.product(scales, (False, True)):
            inside = evaluate.logits_of_view(segmentation.network, body, *view)
            views[view] = F.pad(inside, beside, value=evaluate.AIR).numpy()[0, 0]
        logits.append(views)
    return held_out, logits, segmentation.views


def nested_dice(
    patients: list[Case], logits: list[dict[evaluate.View, np.ndarray]], views: evaluate.Views
) -> np.ndarray:
    """Dice of each patient at the decision best for all the others."""
    means = [np.mean([of[view] for view in views], axis=0, dtype=np.float32) for of in logits]
    truths = [case.truth for case in patients]
    scores = CalibratedScores(
        Histograms.of(list(zip(means, truths, strict=True))),
        blank=np.array([float(not truth.any()) for truth in truths]),
        control_reached=np.array([]),
    )
    return decision.nested_dice(scores)


def table(run: Path, cases: list[Case]) -> str:
    """A section of VIEWS.md."""
    patients, logits, chosen = see(run, cases)
    name = "/".join(run.resolve().parts[-2:])
    lines = [
        f"\n## {name}: {len(patients)} patients\n",
        "| seen | work | mean Dice ± standard error | of mirrored images | mean of both |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, views in SETS.items():
        dice = nested_dice(patients, logits, views)
        turned = nested_dice(patients, logits, tuple((scale, not side) for scale, side in views))
        work = sum(scale**2 for scale, _ in views)
        name = f"**{name}**" if views == chosen else name
        lines.append(
            f"| {name} | {work:.2f} | {dice.mean():.4f} ± {decision.standard_error(dice):.4f} "
            f"| {turned.mean():.4f} | {(dice.mean() + turned.mean()) / 2:.4f} |"
        )
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.views", description="Measure in which views to see an image."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--run", type=Path, required=True, action="append", help="a finished run")
    parser.add_argument("--out", type=Path, default=Path("artifacts/VIEWS.md"))
    arguments = parser.parse_args(argv)
    try:
        cases = dataset.load(arguments.data)
        report = _HEAD + "".join(table(run, cases) for run in arguments.run)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    with replacing(arguments.out) as partial:
        partial.write_text(report)
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
