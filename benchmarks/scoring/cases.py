"""The challenge's data folder as a list of cases.

DIR/patients/imgs/patient_000.png, DIR/patients/labels/segmentation_000.png and, without labels,
DIR/controls/imgs/control_000.png. Other names will do: a patient's label may have the name of its
image, and each image among the controls is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tumour_segmenter import contract, labels
from tumour_segmenter.errors import ContractError, UsageError
from tumour_segmenter.folders import Listing, list_images

PATIENT, CONTROL, LABEL = "patient", "control", "segmentation"
CONTROLS = "controls/imgs"

LARGEST = 10**8  # pixels; whether an image is too large is for the server to say


@dataclass(frozen=True)
class Case:
    """One image on disk; `label` is None for a control, whose true mask is empty."""

    name: str
    image: Path
    label: Path | None = None

    @property
    def group(self) -> str:
        return "patient" if self.label else "control"

    @property
    def mask_names(self) -> list[str]:
        """How a saved mask of this case may be named, without its ending."""
        return list(dict.fromkeys((self.name, label_name(self.name))))

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The grey pixels, uint8 H×W, dark = hot, and the truth, bool H×W.

        Raises UsageError on a file that is no image, no label, or a label of another size.
        """
        pixels = _decoded(self.image, contract.decode_png)
        if self.label is None:
            return pixels, np.zeros(pixels.shape, bool)
        truth = _decoded(self.label, labels.decode_label)
        if truth.shape != pixels.shape:
            sizes = [f"{width}×{height}" for height, width in (truth.shape, pixels.shape)]
            raise UsageError(f"{self.label} has {sizes[0]} pixels, its image {sizes[1]}")
        return pixels, truth


def _decoded(path: Path, decode: Callable[[bytes, int], np.ndarray]) -> np.ndarray:
    try:
        return decode(path.read_bytes(), LARGEST)
    except ContractError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def label_name(name: str) -> str:
    """`patient_000` -> `segmentation_000`; only the beginning counts, other names stay."""
    return LABEL + name.removeprefix(PATIENT) if name.startswith(PATIENT) else name


def find_cases(data: Path, controls: bool = False) -> tuple[list[Case], list[str]]:
    """(cases, notes): all patients, with `controls` also all controls, by name.

    The notes are lines that name the files that are ignored. Raises UsageError where a patient has
    no label or there is none.
    """
    images = _images(data, "patients/imgs")
    found_labels = _images(data, "patients/labels")
    by_name = {path.stem: path for path in found_labels.images}
    cases, used = [], set()
    for image in images.images:
        label = by_name.get(label_name(image.stem)) or by_name.get(image.stem)
        if label is None and image.stem.startswith(PATIENT):
            raise UsageError(
                f"{image} has no label {data / 'patients/labels' / label_name(image.stem)}.png"
            )
        if label is None:
            images.ignore(image, f"images without a label, whose names do not begin with {PATIENT}")
            continue
        used.add(label)
        cases.append(Case(image.stem, image, label))
    if not cases:
        raise UsageError("; ".join([f"no patient in {data}", *images.notes()]))
    for path in found_labels.images:
        if path not in used:
            found_labels.ignore(path, "labels without an image")
    listings = [images, found_labels]
    if controls:
        listings.append(_images(data, CONTROLS))
        cases += [Case(image.stem, image) for image in listings[-1].images]
    names = [(case.group, case.name) for case in cases]
    if twice := {case.image.name for case in cases if names.count((case.group, case.name)) > 1}:
        raise UsageError(f"the same name twice: {', '.join(sorted(twice))}; rename one")
    return cases, [note for listing in listings for note in listing.notes()]


def control_names(data: Path) -> set[str]:
    """Names of the controls in `data`, empty where that folder is not there."""
    folder = data / CONTROLS
    return {path.stem for path in list_images(folder).images} if folder.is_dir() else set()


def _images(data: Path, inside: str) -> Listing:
    """The images in the folder `inside` of `data`; UsageError if there are none."""
    folder = data / inside
    try:
        found = list_images(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.strerror}; --data is the folder that holds patients/imgs, "
            "patients/labels and, for --controls, controls/imgs"
        ) from error
    if not found.images:
        raise UsageError("; ".join([f"{folder} holds no PNG", *found.notes()]))
    return found
