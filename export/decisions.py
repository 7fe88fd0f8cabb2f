"""Which rule turns logits into lesions? `python -m export.decisions --data DIR --run RUN`.

Lets the networks of finished runs (`--run` once for each fold) see those whom they held out, and
compares one threshold for all with each image's own, that after a temperature or a calibration, and
rules that leave out images or lesions.
Writes artifacts/DECISIONS.md and decisions.png; `train.decision` is chosen from it. Exit codes: 0
written, 2 bad input, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, special
from tqdm import tqdm

from export.run import load_run
from train import dataset, decision, evaluate
from train.calibration import Calibration, Histograms
from train.dataset import Case
from train.decision import FEWEST_PIXELS, QUIET, standard_error
from train.figures import plt
from train.files import replacing

PEAKS = (0.0, *decision.FAINT, 0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
AREAS = (1, 10, 20, 50, 100, 200)
TEMPERATURES = tuple(np.arange(1.0, 4.01, 0.25))
ITS_OWN = (None,)
"""The only setting of the calibration: for each patient, the one that all the others have."""


@dataclass(frozen=True, eq=False)
class Lesions:
    """Those found in one image: highest probability, pixels and true pixels of each of L.

    reached: the probability that decision.FEWEST_PIXELS of the image reach.
    """

    peak: np.ndarray
    area: np.ndarray
    hits: np.ndarray
    reached: float


Keep = Callable[[Lesions, float], np.ndarray]


def _all(lesions: Lesions, _: float) -> np.ndarray:
    return lesions.area > 0


def _in_a_hot_image(lesions: Lesions, least: float) -> np.ndarray:
    return np.full(len(lesions.peak), lesions.peak.max(initial=0) > least)


def _in_a_sure_image(lesions: Lesions, least: float) -> np.ndarray:
    return np.full(len(lesions.peak), lesions.reached > least)


def _sure(lesions: Lesions, least: float) -> np.ndarray:
    return lesions.peak > least


def _large(lesions: Lesions, least: float) -> np.ndarray:
    return lesions.area >= least


@dataclass(frozen=True)
class Rule:
    """How a mask is drawn, and the settings that are tried."""

    name: str
    settings: tuple[float | None, ...]


THRESHOLD = Rule("threshold", tuple(decision.THRESHOLDS))
TEMPERATURE = Rule("temperature", TEMPERATURES)
CALIBRATION = Rule("calibration", ITS_OWN)


def settings_of(rule: Rule, calibration: Calibration) -> list[Calibration | float]:
    """Those of the rule, as `decision.mask` takes them; calibration: the image's own."""
    if rule is CALIBRATION:
        return [calibration]
    if rule is TEMPERATURE:
        return [Calibration(1 / float(setting)) for setting in rule.settings]
    return [float(setting) for setting in rule.settings]


# By name: how masks are drawn, the values that are tried, and which lesions are kept.
RULES: dict[str, tuple[Rule, tuple, Keep]] = {
    "a threshold alone": (THRESHOLD, (0,), _all),
    "threshold; no lesion in an image whose highest probability is below": (
        THRESHOLD,
        PEAKS,
        _in_a_hot_image,
    ),
    f"threshold; no lesion in an image with fewer than {FEWEST_PIXELS} pixels above": (
        THRESHOLD,
        PEAKS,
        _in_a_sure_image,
    ),
    "threshold; no lesion whose highest probability is below": (THRESHOLD, PEAKS, _sure),
    "threshold; no lesion of fewer pixels than": (THRESHOLD, AREAS, _large),
    "each image's own threshold, by temperature": (TEMPERATURE, (0,), _all),
    "own threshold, by calibration": (CALIBRATION, (0,), _all),
    "calibration; no lesion in an image whose highest probability is below": (
        CALIBRATION,
        PEAKS,
        _in_a_hot_image,
    ),
    f"calibration; no lesion in an image with fewer than {FEWEST_PIXELS} pixels above": (
        CALIBRATION,
        PEAKS,
        _in_a_sure_image,
    ),
    "calibration; no lesion whose highest probability is below": (CALIBRATION, PEAKS, _sure),
    "calibration; no lesion of fewer pixels than": (CALIBRATION, AREAS, _large),
}

_HEAD = """# Decisions

Written by `python -m export.decisions`; not edited by hand. A mask is drawn with one threshold for
all images, or with each image's own, which is that of its largest expected Dice after the logits
are divided by a temperature, or calibrated (`train/calibration.py`). It falls into lesions
(touching pixels), of which a rule may leave some out. Threshold or temperature, and value, are
those that are best for the mean Dice of all the *other* patients; the calibration is theirs too.
The last columns: the best mean Dice at which {quiet:.0%} of the controls are empty, chosen on all
patients.

Held out of {runs}: {patients} patients, {controls} controls.

| rule | chosen for all | mean Dice ± standard error | against one threshold alone \
| empty controls | Dice if {quiet:.0%} are empty | at |
|---|---|---:|---:|---:|---:|---|
"""


@dataclass(frozen=True, eq=False)
class Person:
    """lesions: by the name of a Rule and in the order of its settings.

    truth: tumour pixels, 0 for a control.
    """

    is_patient: bool
    truth: int
    lesions: dict[str, list[Lesions]]

    def dice(self, rule: Rule, keep: Keep, least: float) -> list[float]:
        """At each setting of the rule; of a control 1 where the mask is empty, else 0."""
        values = []
        for lesions in self.lesions[rule.name]:
            kept = keep(lesions, least)
            total = self.truth + lesions.area[kept].sum()
            values.append(2 * lesions.hits[kept].sum() / total if total else 1.0)
        return values


def find(logits: np.ndarray, case: Case, calibration: Calibration) -> Person:
    """The lesions that a network sees in one person: logits float32 H×W."""
    image = torch.from_numpy(logits)
    lesions = {
        rule.name: [
            _lesions(decision.mask(image, setting).numpy(), logits, case.truth)
            for setting in settings_of(rule, calibration)
        ]
        for rule in (THRESHOLD, TEMPERATURE, CALIBRATION)
    }
    return Person(case.is_patient, int(case.truth.sum()), lesions)


def _lesions(mask: np.ndarray, logits: np.ndarray, truth: np.ndarray) -> Lesions:
    """Of the groups of touching pixels."""
    groups, count = ndimage.label(mask)
    index = np.arange(1, count + 1)
    peak = special.expit(ndimage.maximum(logits, groups, index)) if count else np.zeros(0)
    area = np.bincount(groups.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(groups[truth], minlength=count + 1)[1:]
    return Lesions(np.asarray(peak), area, hits, decision.reached(logits))


def see(run: Path, cases: list[Case]) -> list[tuple[Case, np.ndarray]]:
    """Everyone whom a run held out, and their logits. Raises ValueError where that is nobody."""
    segmentation, config, folds = load_run(run)
    held_out = [case for case in cases if folds["folds"].get(case.name) == config.fold]
    if not held_out:
        raise ValueError(f"{run}: held none of these people out")
    people = tqdm(held_out, desc=run.name, unit="image", leave=False, disable=None)
    device = torch.device("cpu")
    return [(case, evaluate.tumour_logits(segmentation, case.uptake, device)) for case in people]


def find_all(seen: list[tuple[Case, np.ndarray]]) -> list[Person]:
    """The lesions of everyone, each patient's by the calibration of all the other patients."""
    patients = [case.name for case, _ in seen if case.is_patient]
    histograms = Histograms.of([(logits, c.truth) for c, logits in seen if c.is_patient])
    of_all = histograms.calibrate()
    of_others = {
        name: histograms.without(i).calibrate()
        for i, name in enumerate(tqdm(patients, desc="calibrate", leave=False, disable=None))
    }
    return [find(logits, case, of_others.get(case.name, of_all)) for case, logits in seen]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A rule: dice float P×K of the patients, empty bool C×K of the controls, by setting."""

    settings: list[tuple[float | None, float]]
    dice: np.ndarray
    empty: np.ndarray

    @property
    def best(self) -> int:
        return int(self.dice.mean(axis=0).argmax())

    @property
    def nested(self) -> np.ndarray:
        """Dice of each patient at the setting that is best for all the others."""
        others = self.dice.sum(axis=0) - self.dice
        return self.dice[np.arange(len(others)), others.argmax(axis=1)]

    @property
    def quiet(self) -> int | None:
        """The best setting at which QUIET of the controls are empty; None where none is."""
        enough = self.empty.mean(axis=0) >= QUIET if len(self.empty) else np.zeros(1, bool)
        return int(np.where(enough, self.dice.mean(axis=0), -1).argmax()) if enough.any() else None


def outcome(people: list[Person], rule: Rule, values: tuple, keep: Keep) -> Outcome:
    table = np.array([[p.dice(rule, keep, least) for least in values] for p in people])
    table = table.reshape(len(people), -1)
    patients = np.array([p.is_patient for p in people])
    settings = [(setting, least) for least in values for setting in rule.settings]
    return Outcome(settings, table[patients], table[~patients] == 1)


def report(outcomes: dict[str, Outcome], runs: list[Path]) -> str:
    """DECISIONS.md"""
    plain = next(iter(outcomes.values()))
    names = ["/".join(run.resolve().parts[-2:]) for run in runs]
    lines = []
    for name, of in outcomes.items():
        nested, gain = of.nested, of.nested - plain.nested
        cells = [
            name,
            _setting(of, of.best),
            f"{nested.mean():.4f} ± {standard_error(nested):.4f}",
            f"{gain.mean():+.4f} ± {standard_error(gain):.4f}" if of is not plain else "",
            f"{of.empty[:, of.best].mean():.0%}" if len(of.empty) else "",
            f"{of.dice[:, of.quiet].mean():.4f}" if of.quiet is not None else "never",
            _setting(of, of.quiet) if of.quiet is not None else "",
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    head = _HEAD.format(
        quiet=QUIET, runs=", ".join(names), patients=len(plain.dice), controls=len(plain.empty)
    )
    return head + "".join(lines) + "\n![Dice over empty controls, by rule](decisions.png)\n"


def _setting(of: Outcome, number: int) -> str:
    setting, least = of.settings[number]
    varied = len({v for _, v in of.settings}) > 1
    numbers = [setting] * (setting is not None) + [least] * varied
    return ", ".join(f"{number:g}" for number in numbers)


def plot(outcomes: dict[str, Outcome], out: Path) -> None:
    """What each rule makes of the trade between patients' Dice and empty controls."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, of), marker in zip(outcomes.items(), "osv^DPX*<>h", strict=True):
        empty, dice = of.empty.mean(axis=0), of.dice.mean(axis=0)
        # Only settings that no other of the rule beats in both.
        front = [i for i in range(len(dice)) if not ((dice > dice[i]) & (empty >= empty[i])).any()]
        front.sort(key=lambda i: empty[i])
        axes.plot(empty[front], dice[front], f"{marker}-", label=name, alpha=0.8)
    axes.set(xlabel="share of controls with an empty mask", ylabel="mean Dice of patients")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    with replacing(out) as partial:
        figure.savefig(partial, dpi=100)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.decisions", description="Compare rules of what is tumour."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of patients and controls")
    parser.add_argument("--run", type=Path, required=True, action="append", help="a finished run")
    parser.add_argument("--out", type=Path, default=Path("artifacts/DECISIONS.md"))
    arguments = parser.parse_args(argv)
    try:
        cases = dataset.load(arguments.data)
        people = find_all([one for run in arguments.run for one in see(run, cases)])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    outcomes = {name: outcome(people, *rule) for name, rule in RULES.items()}
    plot(outcomes, arguments.out.with_name("decisions.png"))
    text = report(outcomes, arguments.run)
    with replacing(arguments.out) as partial:
        partial.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
