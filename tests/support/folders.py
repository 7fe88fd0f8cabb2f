"""Data folders in the challenge's layout, filled with drawn patients."""

from pathlib import Path

import numpy as np
from PIL import Image

from tumour_segmenter.phantom import phantom


def save_rgba(path: Path, grey: np.ndarray) -> None:
    """Save uint8 H×W as the challenge does: RGBA, equal channels, opaque."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opaque = np.full_like(grey, 255)
    Image.fromarray(np.stack([grey, grey, grey, opaque], axis=2)).save(path)


def draw_data(root: Path, patients: int, controls: int, size: tuple[int, int] = (128, 120)) -> Path:
    """Draw that many patients (two lesions each) and controls of the given height and width."""
    for i in range(patients):
        pixels, truth = phantom(*size, lesions=2, seed=i)
        save_rgba(root / f"patients/imgs/patient_{i:03}.png", pixels)
        save_rgba(root / f"patients/labels/segmentation_{i:03}.png", truth)
    for i in range(controls):
        pixels, _ = phantom(*size, lesions=0, seed=1000 + i)
        save_rgba(root / f"controls/imgs/control_{i:03}.png", pixels)
    return root


def options_in(folder: Path, **paths: str) -> list[str]:
    """Command-line options that name paths inside the folder: data="mine" is --data=FOLDER/mine."""
    return [f"--{name}={folder / path}" for name, path in paths.items()]
