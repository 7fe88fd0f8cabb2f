"""What each core of the cluster does: image names in, masks written, rows of the table out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath

import pyarrow as pa

import serve  # noqa: F401  switches onnxruntime's telemetry off before it is imported
from deploy.ray import table
from deploy.ray.storage import Place, first_line
from serve import contract
from serve.measure import measure
from serve.segmenter import Baseline, Segmenter

# The folder, sent to the nodes beside the code, that holds the model file and its checksum.
MODEL_FOLDER = "tumour_segmenter_model"


@dataclass(frozen=True)
class Plan:
    """What every worker needs to know; `model` is a file in MODEL_FOLDER, None: the baseline."""

    source: str
    out: str
    model: str | None
    max_pixels: int
    made_by: str


class Worker:
    """One model on one core; called with a block of images."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._source, self._out = Place.of(plan.source), Place.of(plan.out)
        self._segment = Baseline()
        if plan.model:
            folder = Path(next(iter(import_module(MODEL_FOLDER).__path__)))
            self._segment = Segmenter.load(folder / plan.model, threads=1)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Segment the images of `block`, columns image and image_version; never raises."""
        return table.of(self._segmented(**row) for row in block.to_pylist())

    def _segmented(self, image: str, image_version: str) -> dict:
        row = {
            "image": image,
            "mask": mask_name(image),
            "fault": "",
            "image_version": image_version,
            "made_by": self._plan.made_by,
        }
        try:
            pixels = contract.decode_png(self._source.read(image), self._plan.max_pixels)
            begin = time.perf_counter()
            mask = self._segment(pixels)
            row["ms"] = 1000 * (time.perf_counter() - begin)
            self._out.write(row["mask"], contract.encode_png(mask))
        except Exception as error:  # one image never stops the others
            return row | {"fault": first_line(error)}
        found = measure(pixels, mask)
        return row | {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "lesions": found.lesions,
            "tumour_pixels": found.tumour_pixels,
            "body_pixels": found.body_pixels,
            "share_of_body": found.share_of_body,
        }


def mask_name(image: str) -> str:
    """Return the name of the mask of `image`."""
    return f"{PurePosixPath(image).stem}.png"
