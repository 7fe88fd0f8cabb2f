"""The challenge's folders -> cases in memory, and folds by patient.

Layout (DM-i-AI 2023, tumor-segmentation): `patients/imgs/patient_NNN.png`,
`patients/labels/segmentation_NNN.png`, `controls/imgs/control_NNN.png`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from serve import contract

FOLDS = 5
MOST_FAULTS_SHOWN = 10


class DataError(ValueError):
    """The data folder cannot be trained on; the message names each file at fault."""


@dataclass(frozen=True, eq=False)
class Case:
    """One person's MIP.

    uptake: uint8 H×W, 0 = background, 255 = hottest (the grey values of the PNG, inverted).
    truth: bool H×W, True = tumour; all False for a control.
    """

    name: str
    uptake: np.ndarray
    truth: np.ndarray

    @property
    def is_patient(self) -> bool:
        return self.name.startswith("patient")


def _read_grey(path: Path) -> np.ndarray:
    try:
        return contract.decode_png(path.read_bytes())
    except contract.ContractError as error:
        raise DataError(f"{path}: {error}") from error


def _read_case(image: Path, label: Path | None) -> Case:
    grey = _read_grey(image)
    if label is None:
        return Case(image.stem, 255 - grey, np.zeros(grey.shape, bool))
    if not label.is_file():
        raise DataError(f"{image}: its label {label} is missing")
    truth = _read_grey(label)
    if truth.shape != grey.shape:
        raise DataError(
            f"{label}: {truth.shape[1]}×{truth.shape[0]} pixels, but {image.name} has "
            f"{grey.shape[1]}×{grey.shape[0]}"
        )
    strange = np.setdiff1d(truth, (0, 255))
    if strange.size:
        raise DataError(f"{label}: holds the value {strange[0]}, expected only 0 and 255")
    return Case(image.stem, 255 - grey, truth > 0)


def load(root: Path) -> list[Case]:
    """Read all patients, then all controls, each sorted by name.

    Raises DataError, naming every missing, mismatched or unreadable file (the first ten).
    """
    images = sorted((root / "patients/imgs").glob("patient_*.png"))
    if not images:
        raise DataError(
            f"{root}: no patients/imgs/patient_NNN.png found; expected the folders "
            "patients/imgs, patients/labels and controls/imgs of the DM-i-AI-2023 repository"
        )
    labels = [root / "patients/labels" / f"segmentation_{i.stem[8:]}.png" for i in images]
    orphans = sorted(set((root / "patients/labels").glob("segmentation_*.png")) - set(labels))
    faults = [f"{label}: has no image in patients/imgs" for label in orphans]
    controls = sorted((root / "controls/imgs").glob("control_*.png"))
    pairs = [*zip(images, labels, strict=True), *((image, None) for image in controls)]
    cases = []
    for image, label in tqdm(pairs, desc="reading images", unit="image", leave=False, disable=None):
        try:
            cases.append(_read_case(image, label))
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - MOST_FAULTS_SHOWN
        shown = faults[:MOST_FAULTS_SHOWN] + ([f"... and {more} more"] if more > 0 else [])
        raise DataError("\n".join(shown))
    return cases


def fingerprint(cases: list[Case]) -> str:
    """SHA-256 over names, shapes, pixels and truths: the same for the same data anywhere."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(f"{case.name}{case.uptake.shape}".encode())
        digest.update(case.uptake.tobytes())
        digest.update(np.packbits(case.truth).tobytes())
    return digest.hexdigest()


def folds(cases: list[Case], seed: int) -> dict[str, int]:
    """Assign each person one of FOLDS folds, stratified by image height and lesion area.

    People of a kind (patient or control) are sorted by height third, then by lesion area, and
    dealt out FOLDS at a time in random order, so that each fold gets one of every stratum.
    """
    rng = np.random.default_rng(seed)
    assigned: dict[str, int] = {}
    for group in ([c for c in cases if c.is_patient], [c for c in cases if not c.is_patient]):
        heights = np.array([c.uptake.shape[0] for c in group])
        thirds = np.searchsorted(np.quantile(heights, (1 / 3, 2 / 3)), heights) if group else ()
        order = sorted(zip(thirds, group, strict=True), key=lambda t: (t[0], t[1].truth.sum()))
        for start in range(0, len(order), FOLDS):
            dealt = rng.permutation(FOLDS)
            for (_, case), fold in zip(order[start : start + FOLDS], dealt, strict=False):
                assigned[case.name] = int(fold)
    return assigned
