"""Images predicted by networks that were not trained on them, at operating points fitted on other
images."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from train import dataset, fitting, records
from train.dataset import Case
from train.fitting import Histograms
from train.members import Member
from train.operating_point import OperatingPoint, OperatingPoints
from train.robustness import VARIANTS
from train.segmentation import Segmentation, ensemble
from train.statistics import mean_and_error
from tumour_segmenter import contract
from tumour_segmenter.progress import bar


class Measured:
    """The cases that at least one member was not trained on, with the logits that those members
    give on average, and operating points fitted on them.

    logits: float32 H×W of each case; is_patient: bool, nested_fold: int, one for each case; points:
    fitted on all cases; nested: of each case those that are fitted on the other nested folds."""

    def __init__(self, members: Sequence[Member], cases: Sequence[Case]) -> None:
        """Raises ValueError where there are fewer than two such patients."""
        trained_on = [member.trained_on for member in members]
        self.members = list(members)
        self._unseen_by = {
            case.name: tuple(i for i, of in enumerate(trained_on) if case.hash not in of)
            for case in cases
        }
        self.cases = [case for case in cases if self._unseen_by[case.name]]
        if sum(case.is_patient for case in self.cases) < 2:
            raise ValueError(
                f"images trained on by every network: {len(cases) - len(self.cases)} of "
                f"{len(cases)}; at least two patients that were not are needed to measure anything"
            )
        self._ensembles: dict[tuple[int, ...], Segmentation] = {}
        dealt = dataset.folds(self.cases)
        self.nested_fold = np.array([dealt[case.name] for case in self.cases])
        self.is_patient = np.array([case.is_patient for case in self.cases])
        images = bar(self.cases, desc="predicting", unit="images")
        self.logits = [self.predict(case, case.uptake) for case in images]
        self._fit_all()

    def _fit_all(self) -> None:
        patients = [(z, c) for z, c in zip(self.logits, self.cases, strict=True) if c.is_patient]
        self._histograms = Histograms.of([(logits, case.truth) for logits, case in patients])
        self._peaks = [
            (logits, fitting.lesion_peaks(logits, case.truth)) for logits, case in patients
        ]
        self._deciding = np.array([fitting.deciding_logit(logits) for logits in self.logits])
        self._ill = np.array([case.truth.any() for case in self.cases])
        self._control = ~self.is_patient
        if self._control.sum() < fitting.FEWEST_CONTROLS:
            self._control = np.zeros_like(self._control)
        self.points = self._fit(np.full(len(self.cases), True))
        nested = [self._fit(self.nested_fold != fold) for fold in range(dataset.FOLDS)]
        self.nested = [nested[fold] for fold in self.nested_fold]

    def _fit(self, chosen: np.ndarray) -> OperatingPoints:
        """chosen: bool, one for each case."""
        patients = chosen[self.is_patient]
        calibration = self._histograms.where(patients).calibrate()
        peaks = [pair for pair, own in zip(self._peaks, patients, strict=True) if own]
        relative = [fitting.relative_peaks(*pair, calibration) for pair in peaks]
        ill, control = self._deciding[chosen & self._ill], self._deciding[chosen & self._control]
        named = fitting.operating_points(np.concatenate(relative), ill, control)
        return OperatingPoints(calibration, named)

    def network_fold(self, case: Case) -> int | None:
        """The fold of the networks that were not trained on it, None where they have several."""
        folds = {self.members[i].identity["fold"] for i in self._unseen_by[case.name]}
        return folds.pop() if len(folds) == 1 else None

    def predict(self, case: Case, uptake: np.ndarray) -> np.ndarray:
        """The case's image, or a variant of it, uint8 H×W uptake -> float32 H×W logits."""
        chosen = self._unseen_by[case.name]
        if chosen not in self._ensembles:
            self._ensembles[chosen] = ensemble([self.members[i].weights for i in chosen])
        return self._ensembles[chosen].of_image(uptake)

    def masks(self, point: str | OperatingPoint) -> list[np.ndarray]:
        """bool H×W of each case, by nested calibration, at an operating point or a nested one by
        its name."""
        return self.masks_of(self.logits, point)

    def masks_of(
        self, logits: Sequence[np.ndarray], point: str | OperatingPoint
    ) -> list[np.ndarray]:
        """The same of other logits of the cases."""
        pairs = zip(logits, self.nested, strict=True)
        return [points.mask(of_one, point) for of_one, points in pairs]

    @cached_property
    def records(self) -> records.Records:
        """Numbers of each image, nested."""
        masks = {name: self.masks(name) for name in self.points.named}
        return records.of(self.cases, [self.network_fold(case) for case in self.cases], masks)

    def table(self) -> dict[str, dict[str, float]]:
        """Of each operating point its two numbers, and the nested figures of records.summary."""
        return {
            name: vars(point) | records.summary(self.records, name)
            for name, point in self.points.named.items()
        }

    def robustness(self) -> dict[str, list[float]]:
        """Of each variant the mean Dice that patients lose by it, and its standard error."""
        default, lost = fitting.DEFAULT, {name: [] for name in VARIANTS}
        for i in bar(np.flatnonzero(self.is_patient), desc="robustness", unit="patients"):
            case = self.cases[i]
            plain = contract.dice(case.truth, self.nested[i].mask(self.logits[i], default))
            for name, change in VARIANTS.items():
                uptake, truth = change(case.uptake, case.truth)
                drawn = self.nested[i].mask(self.predict(case, uptake), default)
                lost[name].append(plain - contract.dice(truth, drawn))
        return {name: mean_and_error(of) for name, of in lost.items()}
