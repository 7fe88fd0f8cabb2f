"""The challenge's data folder as a list of cases, and the choice of some of them.

DIR/patients/imgs/patient_000.png, DIR/patients/labels/segmentation_000.png and, without labels,
DIR/controls/imgs/control_000.png.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import UsageError


@dataclass(frozen=True)
class Case:
    """One image on disk; `label` is None for a control, whose true mask is empty."""

    name: str
    image: Path
    label: Path | None = None

    @property
    def group(self) -> str:
        return "patient" if self.label else "control"

    def read(self) -> tuple[Image.Image, np.ndarray]:
        """The RGB image without its alpha and the truth, uint8 H×W of 0 and 255.

        Raises UsageError on a file that is no image or a label of another size.
        """
        image = open_image(self.image).convert("RGB")
        if self.label is None:
            return image, np.zeros((image.height, image.width), np.uint8)
        label = open_image(self.label)
        if label.size != image.size:
            raise UsageError(f"{self.label} is {label.size}, its image is {image.size}")
        return image, np.where(np.asarray(label.convert("L")) > 0, np.uint8(255), np.uint8(0))


def open_image(path: Path) -> Image.Image:
    """The decoded image; UsageError when it is none."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise UsageError(f"{path} is no readable image: {error}") from error
    return image


def find_cases(data: Path, controls: bool = False) -> list[Case]:
    """All patients, with `controls` also all controls, by name; UsageError if files are missing."""
    cases = []
    for image in sorted((data / "patients" / "imgs").glob("*.png")):
        label = data / "patients" / "labels" / image.name.replace("patient", "segmentation")
        if not label.is_file():
            raise UsageError(f"{image.name} has no label {label}")
        cases.append(Case(image.stem, image, label))
    if not cases:
        raise UsageError(f"no patients: {data / 'patients' / 'imgs'} holds no PNG")
    if controls:
        found = sorted((data / "controls" / "imgs").glob("*.png"))
        if not found:
            raise UsageError(f"no controls: {data / 'controls' / 'imgs'} holds no PNG")
        cases += [Case(image.stem, image) for image in found]
    return cases


def listed(path: Path) -> set[str]:
    """The patients that a file names, whether it is plain text, CSV or JSON."""
    names = set(re.findall(r"patient_\d+", read_text(path)))
    if not names:
        raise UsageError(f"{path} names no patient_NNN")
    return names


def in_fold(path: Path, fold: int) -> set[str]:
    """Whom `path`, {"folds": {"patient_000": 0, "control_000": 1, ...}}, puts into `fold`."""
    try:
        folds = json.loads(read_text(path))["folds"]
        names = {name for name, number in folds.items() if number == fold}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} is not {{"folds": {{"patient_000": 0, ...}}}}') from error
    if not any(name.startswith("patient") for name in names):
        known = sorted(set(folds.values()))
        raise UsageError(f"{path} puts no patient into fold {fold}; it has {known}")
    return names


def choose(cases: list[Case], names: set[str]) -> list[Case]:
    """The patients of `cases` that are in `names`; of controls too, if any is named, else all.

    UsageError if a patient in `names` is not among the cases, or a control where there are any: a
    score over fewer would look like another.
    """
    if all(case.group == "patient" for case in cases):
        names = {name for name in names if name.startswith("patient")}
    missing = names - {case.name for case in cases}
    if missing:
        raise UsageError(f"{len(missing)} of those chosen not found, such as {min(missing)}")
    every_control = not any(name.startswith("control") for name in names)
    return [
        case for case in cases if case.name in names or (case.group == "control" and every_control)
    ]


def read_text(path: Path) -> str:
    """The file's text; UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
