"""What is it worth to see an image larger, or its mirror image too?
`python -m export.views --data DIR --run runs/NAME/fold-0 [--run ...]`.

Lets the networks of finished runs see the patients whom they held out in several sets of views, and
writes artifacts/VIEWS.md; the setting `view_scales` is chosen from it. Exit codes: 0 written, 2 bad
input, 130 interrupted.
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from export.run import load_run
from train import dataset, decision, evaluate
from train.calibration import Histograms
from train.dataset import Case
from train.decision import CalibratedScores
from train.files import replacing

SETS: dict[str, evaluate.Views] = {
    "as it is": ((1.0, False),),
    "as it is, and its mirror image": evaluate.views_at((1.0,)),
    "an eighth larger, and its mirror image": evaluate.views_at((1.125,)),
    "a quarter larger, and its mirror image": evaluate.views_at((1.25,)),
    "as it is, and mirrored an eighth larger": ((1.0, False), (1.125, True)),
    "as it is and an eighth larger, each with its mirror image": evaluate.views_at((1.0, 1.125)),
    "as it is and a quarter larger, each with its mirror image": evaluate.views_at((1.0, 1.25)),
    "as it is, an eighth and a quarter larger, each with its mirror image": evaluate.views_at(
        (1.0, 1.125, 1.25)
    ),
}

_HEAD = """# Views

Written by `python -m export.views`; not edited by hand. Mean Dice of patients whom the networks
held out, each by the calibration of the others, in several sets of views whose logits
are averaged. An image that comes mirrored is seen in the same views, mirrored: where they differ,
both columns measure the same choice, and their mean is the better estimate, which is compared
with that of the views chosen, patient by patient. Work is in passes over an image as it is.

Held out of {runs}: {patients} patients.

| seen | work | mean Dice ± standard error | of mirrored images | mean of both \
| against those chosen |
|---|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True, eq=False)
class Seen:
    """A patient by a network: 1×1×H×W uptake of the body and, by view, its logits; columns of air
    on either side of it."""

    case: Case
    segmentation: evaluate.Segmentation
    body: Tensor
    logits: dict[evaluate.View, Tensor]
    beside: tuple[int, int]

    def merged(self, views: Iterable[evaluate.View]) -> np.ndarray:
        """Float32 H×W logits of the image, as Segmentation with these views gives them."""
        inside = self.segmentation.merged([self.logits[view] for view in views], self.body)
        return F.pad(inside, self.beside, value=evaluate.AIR).numpy()[0, 0]


@torch.no_grad()
def see(run: Path, cases: list[Case]) -> tuple[list[Seen], evaluate.Views]:
    """The patients whom a run held out, and the run's views."""
    segmentation, config, folds = load_run(run)
    held_out = [c for c in cases if c.is_patient and folds["folds"].get(c.name) == config.fold]
    if len(held_out) < 2:
        raise ValueError(f"{run}: held {len(held_out)} patients out, expected 2 or more")
    scales = sorted({scale for views in SETS.values() for scale, _ in views})
    patients = []
    for case in tqdm(held_out, desc=run.name, unit="patient", leave=False, disable=None):
        image = torch.from_numpy(case.uptake).float()[None, None] / 255
        body, _, first, last = segmentation.prepare(image)
        body = body[..., int(first) : int(last)]
        beside = (int(first), image.shape[3] - int(last))
        logits = {
            view: evaluate.logits_of_view(segmentation.network, body, *view)
            for view in itertools.product(scales, (False, True))
        }
        patients.append(Seen(case, segmentation, body, logits, beside))
    return patients, evaluate.views_at(segmentation.view_scales)


def nested_dice(patients: list[Seen], views: frozenset[evaluate.View]) -> np.ndarray:
    """Dice of each patient at the decision best for all the others."""
    logits = [patient.merged(views) for patient in patients]
    truths = [patient.case.truth for patient in patients]
    scores = CalibratedScores(
        Histograms.of(list(zip(logits, truths, strict=True))),
        reached=np.array([decision.reached(of) for of in logits]),
        blank=np.array([float(not truth.any()) for truth in truths]),
        control_reached=np.array([]),
    )
    return decision.nested_dice(scores)


def report(runs: list[Path], cases: list[Case]) -> str:
    """VIEWS.md; raises ValueError where the runs do not see an image in the same views."""
    seen = [see(run, cases) for run in runs]
    patients = list(itertools.chain(*(of for of, _ in seen)))
    chosen = seen[0][1]
    if any(views != chosen for _, views in seen):
        raise ValueError("the runs see images at different scales, expected the same view_scales")
    # Sets that hold their own mirror images are measured once.
    measure = functools.cache(lambda views: nested_dice(patients, views))
    both = {
        views: [measure(frozenset(views)), measure(frozenset((s, not m) for s, m in views))]
        for views in {chosen, *SETS.values()}
    }
    names = ["/".join(run.resolve().parts[-2:]) for run in runs]
    lines = [_HEAD.format(runs=", ".join(names), patients=len(patients))]
    for name, views in SETS.items():
        dice, mirrored = both[views]
        mean = (dice + mirrored) / 2
        gain = mean - sum(both[chosen]) / 2
        cells = [
            f"**{name}**" if views == chosen else name,
            f"{sum(scale**2 for scale, _ in views):.2f}",
            f"{dice.mean():.4f} ± {decision.standard_error(dice):.4f}",
            f"{mirrored.mean():.4f}",
            f"{mean.mean():.4f}",
            "" if views == chosen else f"{gain.mean():+.4f} ± {decision.standard_error(gain):.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.views", description="Measure in which views to see an image."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--run", type=Path, required=True, action="append", help="a finished run")
    parser.add_argument("--out", type=Path, default=Path("artifacts/VIEWS.md"))
    arguments = parser.parse_args(argv)
    try:
        text = report(arguments.run, dataset.load(arguments.data))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    with replacing(arguments.out) as partial:
        partial.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
