"""The challenge's folders -> cases in memory, and folds by person.

Layout (DM-i-AI 2023, tumor-segmentation): `patients/imgs/patient_NNN.png`,
`patients/labels/segmentation_NNN.png`, `controls/imgs/control_NNN.png`. Each image is a person of
its own, unless `train.persons` finds a table that says otherwise.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from train.persons import DataError, persons
from tumour_segmenter import contract
from tumour_segmenter.folders import Listing, list_images
from tumour_segmenter.labels import decode_label
from tumour_segmenter.progress import bar

FOLDS = 5
MOST_FAULTS_SHOWN = 10
PATIENT, LABEL = "patient_", "segmentation_"


@dataclass(frozen=True, eq=False)
class Case:
    """A MIP. uptake: uint8 H×W, 255 = hottest (the grey values of the PNG, inverted); truth: bool
    H×W, True = tumour; all False for a control; person: whose it is, empty where nobody else's
    image can be of the same one."""

    name: str
    uptake: np.ndarray
    truth: np.ndarray
    person: str = ""

    @property
    def is_patient(self) -> bool:
        return self.name.startswith(PATIENT)

    @property
    def grey(self) -> np.ndarray:
        """uint8 H×W, dark = hot, as in the PNG."""
        return 255 - self.uptake

    @cached_property
    def hash(self) -> str:
        """What names the image wherever it is met (contract.image_hash)."""
        return contract.image_hash(self.grey)


def _read_case(image: Path, label: Path | None, person: str) -> Case:
    def read(path: Path, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
        try:
            return decode(path.read_bytes())
        except (OSError, contract.ContractError) as error:
            raise DataError(f"{path}: {getattr(error, 'strerror', error)}") from error

    grey = read(image, contract.decode_png)
    truth = read(label, decode_label) if label else np.zeros(grey.shape, bool)
    if truth.shape != grey.shape:
        sizes = [f"{width}×{height}" for height, width in (truth.shape, grey.shape)]
        raise DataError(f"{label}: {sizes[0]} pixels, but {image.name} has {sizes[1]}")
    return Case(image.stem, 255 - grey, truth, person)


def _listed(folder: Path, note: Callable[[str], None]) -> list[Path]:
    """The PNG files of a folder, none where there is no such folder; notes what is ignored."""
    listing = list_images(folder) if folder.is_dir() else Listing()
    for line in listing.notes():
        note(f"{folder}: {line}")
    return listing.images


def _pairs(
    root: Path, note: Callable[[str], None]
) -> tuple[list[tuple[Path, Path | None]], list[str]]:
    """Each image with its label, None for controls, and what is at fault with the names."""
    found = _listed(root / "patients/labels", note)
    labels = {path.stem: path for path in found}
    pairs: list[tuple[Path, Path | None]] = []
    faults = [f"{path}: another label has this name" for path in found if labels[path.stem] != path]
    for image in _listed(root / "patients/imgs", note):
        wanted = LABEL + image.stem.removeprefix(PATIENT)
        if not image.stem.startswith(PATIENT):
            note(f"{image}: ignored, its name does not begin with {PATIENT}")
        elif wanted in labels:
            pairs.append((image, labels.pop(wanted)))
        else:
            faults.append(f"{image}: its label patients/labels/{wanted}.png is missing")
    for stem, path in labels.items():
        if stem.startswith(LABEL):
            faults.append(f"{path}: has no image in patients/imgs")
        else:
            note(f"{path}: ignored, its name does not begin with {LABEL}")
    for image in _listed(root / "controls/imgs", note):
        pairs.append((image, None))
        if image.stem.startswith(PATIENT):
            faults.append(f"{image}: is named as a patient, but is among the controls")
    counts = Counter(image.stem for image, _ in pairs)
    more = {stem: count for stem, count in counts.items() if count > 1}
    return pairs, faults + [f"{stem}: {n} images have this name" for stem, n in more.items()]


def load(root: Path, note: Callable[[str], None] | None = None) -> list[Case]:
    """All patients, then all controls, each sorted by name; note: is given a line on what is
    ignored. Raises DataError that names missing, mismatched, unreadable and identical files (ten
    at most)."""
    pairs, faults = _pairs(root, note or (lambda line: print(line, file=sys.stderr)))
    if not any(label for _, label in pairs) and not faults:
        raise DataError(
            f"{root}: no patients/imgs/patient_NNN.png found; expected the folders "
            "patients/imgs, patients/labels and controls/imgs of the DM-i-AI-2023 repository"
        )
    whose = persons(root, [image.stem for image, _ in pairs])
    cases: list[Case] = []
    first: dict[str, Path] = {}
    for image, label in bar(pairs, desc="reading images", unit="images"):
        try:
            case = _read_case(image, label, whose.get(image.stem, ""))
            if (same := first.setdefault(case.hash, image)) != image:
                raise DataError(f"{image}: the same image as {same}; remove one of them")
            cases.append(case)
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - MOST_FAULTS_SHOWN
        shown = faults[:MOST_FAULTS_SHOWN] + ([f"... and {more} more"] if more > 0 else [])
        raise DataError("\n".join(shown))
    return cases


def fingerprint(cases: list[Case]) -> str:
    """SHA-256 over names, persons, shapes, pixels, truths: the same for the same data anywhere."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(f"{case.name}{case.person}{case.uptake.shape}".encode())
        digest.update(case.uptake.tobytes())
        digest.update(np.packbits(case.truth).tobytes())
    return digest.hexdigest()


def folds(cases: list[Case], seed: int = 0) -> dict[str, int]:
    """The fold of each image: those of a kind (patient or control) are sorted by height third, then
    by lesion area, and dealt out FOLDS at a time in random order, one of a stratum to each. All
    images of a person go with the first of them."""
    rng = np.random.default_rng(seed)
    dealt_by = {case.person: case.name for case in reversed(cases) if case.person}
    leader = {case.name: dealt_by.get(case.person, case.name) for case in cases}
    leading = [case for case in cases if leader[case.name] == case.name]
    assigned: dict[str, int] = {}
    for patients in (True, False):
        group = [case for case in leading if case.is_patient == patients]
        heights = np.array([c.uptake.shape[0] for c in group])
        thirds = np.searchsorted(np.quantile(heights, (1 / 3, 2 / 3)), heights) if group else ()
        order = sorted(zip(thirds, group, strict=True), key=lambda t: (t[0], t[1].truth.sum()))
        for start in range(0, len(order), FOLDS):
            dealt = rng.permutation(FOLDS)
            for (_, case), fold in zip(order[start : start + FOLDS], dealt, strict=False):
                assigned[case.name] = int(fold)
    return {name: assigned[first] for name, first in leader.items()}
