"""One case, its mask from a server or a folder, and how good that mask is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.scoring.cases import Case
from benchmarks.scoring.losses import Losses, losses
from tumour_segmenter import client, contract, labels
from tumour_segmenter.errors import ContractError, UsageError
from tumour_segmenter.folders import list_images
from tumour_segmenter.lesions import Compared, compare, hausdorff


@dataclass(frozen=True)
class Result:
    """How one case went: Dice in [0, 1], areas in pixels, `fault` empty when the answer was good.

    `hausdorff` is the distance at the 95th percentile, None where truth or mask is empty. `mask` is
    uint8 H×W of 0 and 255, all 0 when there was no good answer; `image_hash` is that of
    `contract.image_hash`.
    """

    case: Case
    dice: float
    lesions: Compared
    hausdorff: float | None
    losses: Losses
    truth_pixels: int
    mask_pixels: int
    seconds: float
    fault: str
    mask: np.ndarray
    image_hash: str


class ServerSource:
    """Masks from a server, asked as the challenge asks it."""

    def __init__(self, url: str, timeout: float, operating_point: str | None = None) -> None:
        self.url, self.timeout, self.operating_point = url, timeout, operating_point

    def __call__(self, case: Case, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """(mask, seconds); raises client.Unanswered, ContractError.

        Raises UsageError for an answer that shows that no image will get a mask.
        """
        body = client.request_body(pixels, self.operating_point)
        reply = client.ask(self.url, "/predict", body, self.timeout)
        client.refuse(self.url, reply)
        return client.read_mask(reply, pixels.shape), reply.seconds


class FolderSource:
    """Masks saved as patient_NNN.png or segmentation_NNN.png, in any mode a PNG may have."""

    def __init__(self, folder: Path, cases: list[Case]) -> None:
        """Raises UsageError where there is no mask of any of `cases`."""
        try:
            self.masks = {path.stem: path for path in list_images(folder).images}
        except OSError as error:
            raise UsageError(f"{folder} is no folder of masks: {error.strerror}") from error
        if not any(name in self.masks for case in cases for name in case.mask_names):
            expected = " or ".join(f"{name}.png" for name in cases[0].mask_names)
            raise UsageError(f"{folder} holds no mask of these cases, such as {expected}")

    def __call__(self, case: Case, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """(mask, 0); raises client.Unanswered, ContractError."""
        name = next((name for name in case.mask_names if name in self.masks), None)
        if name is None:
            raise client.Unanswered(f"no mask {case.mask_names[0]}.png")
        path = self.masks[name]
        try:
            mask = labels.decode_label(path.read_bytes(), pixels.size, most=1.0)
        except (OSError, ContractError) as error:
            raise ContractError("bad_mask", f"{path.name}: {error}") from error
        if mask.shape != pixels.shape:
            sizes = [f"{width}×{height}" for height, width in (mask.shape, pixels.shape)]
            why = f"{path.name} has {sizes[0]} pixels, its image {sizes[1]}"
            raise ContractError("bad_mask", why)
        return np.where(mask, np.uint8(255), np.uint8(0)), 0.0


def score(case: Case, source: ServerSource | FolderSource) -> Result:
    """Ask for the mask of one case and judge it; a fault is no exception but a Dice of 0."""
    pixels, truth = case.read()
    start = perf_counter()
    try:
        mask, seconds = source(case, pixels)
        dice, fault = contract.dice(truth, mask), ""
    except (client.Unanswered, ContractError) as error:
        kind = {client.Late: "late", ContractError: "malformed"}.get(type(error), "no answer")
        mask, seconds = np.zeros(truth.shape, np.uint8), perf_counter() - start
        dice, fault = 0.0, f"{kind}: {error}"
    return Result(
        case,
        dice,
        compare(truth, mask),
        hausdorff(truth, mask),
        losses(truth, mask),
        int(np.count_nonzero(truth)),
        int(np.count_nonzero(mask)),
        seconds,
        fault,
        mask,
        contract.image_hash(pixels),
    )
