"""Networks on images that they were not trained on, at operating points fitted on other images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from serve import contract
from train import dataset, weights
from train.dataset import Case
from train.operating_point import (
    DEFAULT,
    SPECIFICITY,
    Calibration,
    Histograms,
    mask,
    minimum_probability,
    reached,
)
from train.progress import Progress
from train.provenance import sha256
from train.robustness import VARIANTS
from train.segmentation import Segmentation, ensemble
from train.weights import Weights

FEWEST_CONTROLS = 10
"""With fewer there is only the operating point that needs none."""


@dataclass(frozen=True)
class Member:
    """A trained network and what identifies it."""

    path: Path
    weights: Weights
    sha256: str

    @property
    def identity(self) -> dict[str, str | int | None]:
        """JSON values: file, fold, seed, sha256."""
        fold, seed = (self.weights.facts.get(name, "") for name in ("fold", "seed"))
        return {
            "file": self.path.name,
            "fold": int(fold) if fold.isdigit() else None,
            "seed": int(seed) if seed.isdigit() else None,
            "sha256": self.sha256,
        }

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
        if "trained_on" not in member.weights.facts:
            raise ValueError(f"{member.path}: does not list the images it was trained on")
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
        return mask(
            torch.from_numpy(np.ascontiguousarray(logits)), self.calibration, minimum
        ).numpy()


class Unseen:
    """The cases that at least one member was not trained on, and what those members predict."""

    def __init__(self, members: Sequence[Member], cases: Sequence[Case]) -> None:
        """Raises ValueError where there are fewer than two such patients."""
        hashes = {case.name: case.hash for case in cases}
        trained_on = [member.trained_on for member in members]
        by = {
            case.name: tuple(i for i, of in enumerate(trained_on) if hashes[case.name] not in of)
            for case in cases
        }
        self.cases = [case for case in cases if by[case.name]]
        if sum(case.is_patient for case in self.cases) < 2:
            raise ValueError(
                f"{len(cases) - len(self.cases)} of {len(cases)} images were trained on by every "
                "network; at least two patients that were not are needed to measure anything"
            )
        self.members, self.hashes, self._by = list(members), hashes, by
        self._ensembles: dict[tuple[int, ...], Segmentation] = {}
        dealt = dataset.folds(self.cases)
        self.part = np.array([dealt[case.name] for case in self.cases])
        """Of the nested fits, of each case: the fold, where the cases are those of all folds."""
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
        self.logits: list[np.ndarray] = []
        with Progress("predicting", len(self.cases), "images") as progress:
            for case in self.cases:
                self.logits.append(unseen.predict(case, case.uptake))
                progress.to(len(self.logits))
        pairs = zip(self.logits, self.cases, strict=True)
        self.histograms = Histograms.of([(z, c.truth) for z, c in pairs if c.is_patient])
        self.reached = np.array([reached(logits) for logits in self.logits])
        controls = int((~unseen.patient).sum())
        self.names = list(SPECIFICITY) if controls >= FEWEST_CONTROLS else ["sensitive"]
        self.default = DEFAULT if DEFAULT in self.names else self.names[0]
        self.points = self._fit(np.full(len(self.cases), True))
        parts = range(dataset.FOLDS)
        nested = [self._fit(unseen.part != part) for part in parts]
        self.nested = [nested[part] for part in unseen.part]
        """Of each case, fitted without its part."""

    def _fit(self, chosen: np.ndarray) -> OperatingPoints:
        patient = self.unseen.patient
        controls = self.reached[chosen & ~patient]
        return OperatingPoints(
            self.histograms.where(chosen[patient]).calibrate(),
            {name: minimum_probability(controls, SPECIFICITY[name]) for name in self.names},
        )

    def masks(self, name: str) -> list[np.ndarray]:
        """bool H×W of each case at the nested operating point."""
        pairs = zip(self.logits, self.nested, strict=True)
        return [points.mask(logits, name) for logits, points in pairs]

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
            dice = self.dice(masks)
            table[name] = {
                "minimum_probability": self.points.minimum[name],
                "dice": round(float(dice.mean()), 4),
                "dice_standard_error": round(standard_error(dice), 4),
            }
            controls = [
                not m.any() for m, c in zip(masks, self.cases, strict=True) if not c.is_patient
            ]
            if controls:
                table[name]["specificity"] = round(float(np.mean(controls)), 4)
        return table

    def robustness(self) -> dict[str, list[float]]:
        """Of each variant the mean Dice that patients lose by it, and its standard error."""
        plain = self.dice(self.masks(self.default))
        indices = np.flatnonzero(self.unseen.patient)
        lost = {name: [] for name in VARIANTS}
        with Progress("robustness", len(indices) * len(VARIANTS), "images") as progress:
            for i, before in zip(indices, plain, strict=True):
                case = self.cases[i]
                for name, change in VARIANTS.items():
                    uptake, truth = change(case.uptake, case.truth)
                    logits = self.unseen.predict(case, uptake)
                    after = contract.dice(truth, self.nested[i].mask(logits, self.default))
                    lost[name].append(before - after)
                    progress.to(sum(map(len, lost.values())))
        return {
            name: [round(float(np.mean(of)), 4), round(standard_error(np.array(of)), 4)]
            for name, of in lost.items()
        }


def standard_error(values: np.ndarray) -> float:
    """Of the mean of float P, P >= 2."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
