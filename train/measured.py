"""Networks on images that they were not trained on, at operating points fitted on other images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from train import dataset, operating_point, weights
from train.dataset import Case
from train.operating_point import DEFAULT, SPECIFICITY, Calibration, Histograms
from train.progress import over
from train.robustness import VARIANTS
from train.segmentation import Segmentation, ensemble
from train.weights import Weights, sha256
from tumour_segmenter import contract

FEWEST_CONTROLS = 10  # with fewer there is only the operating point that needs none


@dataclass(frozen=True)
class Member:
    """A trained network and what identifies it."""

    path: Path
    weights: Weights
    sha256: str

    @property
    def identity(self) -> dict[str, str | int]:
        """JSON values: file, fold, seed, sha256."""
        numbers = {name: int(self.weights.facts[name]) for name in ("fold", "seed")}
        return {"file": self.path.name, **numbers, "sha256": self.sha256}

    @property
    def trained_on(self) -> set[str]:
        """Hashes of images."""
        return set(json.loads(self.weights.facts["trained_on"]))


def load_members(paths: Sequence[Path]) -> list[Member]:
    """The networks in files, and in all *.safetensors of folders; raises ValueError."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: holds no *.safetensors; train.fit and train.crossval do")
        found += [file for file in inside if file not in found]
    members = [Member(path, weights.load(path), sha256(path)) for path in found]
    for member in members:
        if missing := {"fold", "seed", "trained_on"} - member.weights.facts.keys():
            raise ValueError(f"{member.path}: has no {min(missing)} among its facts; train again")
    if len({member.sha256 for member in members}) < len(members):
        raise ValueError("two of the weights files are the same network; give each one once")
    return members


@dataclass(frozen=True)
class OperatingPoints:
    """calibration; minimum: the minimum probability of each operating point by its name."""

    calibration: Calibration
    minimum: dict[str, float]

    def mask(self, logits: np.ndarray, name: str) -> np.ndarray:
        """float32 H×W logits -> bool H×W."""
        minimum = torch.tensor(self.minimum[name], dtype=torch.float32)
        return operating_point.mask(torch.from_numpy(logits), self.calibration, minimum).numpy()


class Unseen:
    """The cases that at least one member was not trained on, and what those members predict."""

    def __init__(self, members: Sequence[Member], cases: Sequence[Case]) -> None:
        """Raises ValueError where there are fewer than two such patients."""
        trained_on = [member.trained_on for member in members]
        self.members, self.hashes = list(members), {case.name: case.hash for case in cases}
        self._by = {
            name: tuple(i for i, of in enumerate(trained_on) if own not in of)
            for name, own in self.hashes.items()
        }
        self.cases = [case for case in cases if self._by[case.name]]
        if sum(case.is_patient for case in self.cases) < 2:
            raise ValueError(
                f"images trained on by every network: {len(cases) - len(self.cases)} of "
                f"{len(cases)}; at least two patients that were not are needed to measure anything"
            )
        self._ensembles: dict[tuple[int, ...], Segmentation] = {}
        dealt = dataset.folds(self.cases)
        self.part = np.array([dealt[case.name] for case in self.cases])  # of the nested fits
        self.patient = np.array([case.is_patient for case in self.cases])

    def fold(self, case: Case) -> int | None:
        """The fold of the networks that were not trained on it, None where they have several."""
        folds = {self.members[i].identity["fold"] for i in self._by[case.name]}
        return folds.pop() if len(folds) == 1 else None

    def predict(self, case: Case, uptake: np.ndarray) -> np.ndarray:
        """The case's image, or a variant of it, uint8 H×W uptake -> float32 H×W logits."""
        chosen = self._by[case.name]
        if chosen not in self._ensembles:
            self._ensembles[chosen] = ensemble([self.members[i].weights for i in chosen])
        return self._ensembles[chosen].of_image(uptake)


class Measured:
    """Logits of all unseen cases, and operating points fitted on them."""

    def __init__(self, unseen: Unseen) -> None:
        self.unseen, self.cases = unseen, unseen.cases
        images = over(self.cases, "predicting", "images")
        self.logits = [unseen.predict(case, case.uptake) for case in images]
        pairs = zip(self.logits, self.cases, strict=True)
        self.histograms = Histograms.of([(z, c.truth) for z, c in pairs if c.is_patient])
        self.reached = np.array([operating_point.reached(logits) for logits in self.logits])
        controls = int((~unseen.patient).sum())
        self.names = list(SPECIFICITY) if controls >= FEWEST_CONTROLS else ["sensitive"]
        self.default = DEFAULT if DEFAULT in self.names else self.names[0]
        self.points = self._fit(np.full(len(self.cases), True))
        nested = [self._fit(unseen.part != part) for part in range(dataset.FOLDS)]
        self.nested = [nested[part] for part in unseen.part]  # of each case, without its part

    def _fit(self, chosen: np.ndarray) -> OperatingPoints:
        patient = self.unseen.patient
        controls = self.reached[chosen & ~patient]
        least = operating_point.minimum_probability
        minimum = {name: least(controls, SPECIFICITY[name]) for name in self.names}
        return OperatingPoints(self.histograms.where(chosen[patient]).calibrate(), minimum)

    def masks(self, name: str) -> list[np.ndarray]:
        """bool H×W of each case at the nested operating point."""
        pairs = zip(self.logits, self.nested, strict=True)
        return [points.mask(logits, name) for logits, points in pairs]

    def above(self, threshold: float) -> list[np.ndarray]:
        """bool H×W of each case: what has a higher probability by the nested calibration."""
        pairs = zip(map(torch.from_numpy, self.logits), self.nested, strict=True)
        probabilities = (operating_point.calibrated(z, of.calibration) for z, of in pairs)
        return [(probability > threshold).numpy() for probability in probabilities]

    def dice(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Of each patient, float P."""
        pairs = zip(self.cases, masks, strict=True)
        return np.array([contract.dice(c.truth, m) for c, m in pairs if c.is_patient])

    def figures(self) -> dict[str, dict[str, float]]:
        """Of each operating point: minimum_probability, and its nested dice,
        dice_standard_error and, where there are controls, specificity."""
        table = {}
        for name in self.names:
            masks = self.masks(name)
            dice, error = mean_and_error(self.dice(masks))
            table[name] = {"minimum_probability": self.points.minimum[name]}
            table[name] |= {"dice": dice, "dice_standard_error": error}
            empty = ~np.array([drawn.any() for drawn in masks])[~self.unseen.patient]
            if empty.size:
                table[name]["specificity"] = round(float(empty.mean()), 4)
        return table

    def robustness(self) -> dict[str, list[float]]:
        """Of each variant the mean Dice that patients lose by it, and its standard error."""
        plain = self.dice(self.masks(self.default))
        indices = over(np.flatnonzero(self.unseen.patient), "robustness", "patients")
        lost = {name: [] for name in VARIANTS}
        for i, before in zip(indices, plain, strict=True):
            case = self.cases[i]
            for name, change in VARIANTS.items():
                uptake, truth = change(case.uptake, case.truth)
                drawn = self.nested[i].mask(self.unseen.predict(case, uptake), self.default)
                lost[name].append(before - contract.dice(truth, drawn))
        return {name: mean_and_error(np.array(of)) for name, of in lost.items()}


def mean_and_error(values: np.ndarray) -> list[float]:
    """Of float P, P >= 2: the mean and its standard error, to four digits."""
    return [round(float(x), 4) for x in (values.mean(), values.std(ddof=1) / len(values) ** 0.5)]
