"""What each core of the cluster does: image names in, masks written, rows of the table out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import pyarrow as pa

from deploy.ray import table
from deploy.ray.storage import Place, first_line
from tumour_segmenter import contract
from tumour_segmenter.cli.tasks import (
    MASK,
    PROBABILITY,
    Provenance,
    Task,
    add_record,
    record_of,
    sha256,
)
from tumour_segmenter.measure import measure
from tumour_segmenter.png import read_image
from tumour_segmenter.segmenter import Baseline, Prediction, open_model

# The folder, sent to the nodes beside the code, that holds the model file and its checksum.
MODEL_FOLDER = "tumour_segmenter_model"


@dataclass(frozen=True)
class Plan:
    """What every worker needs to know; `model` is a file in MODEL_FOLDER, None: the baseline.

    `operating_point` None is the model's default.
    """

    source: str
    out: str
    model: str | None
    max_pixels: int
    operating_point: str | None
    probability: bool
    provenance: Provenance


class Worker:
    """One model on one core; called with a block of images."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._source, self._out = Place.of(plan.source), Place.of(plan.out)
        self._segment = Baseline()
        if plan.model:
            folder = Path(next(iter(import_module(MODEL_FOLDER).__path__)))
            self._segment = open_model(folder / plan.model)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Segment the images of `block`: image, image_size, image_mtime_ns; never raises."""
        return table.of(row | self._segmented(row["image"]) for row in block.to_pylist())

    def _segmented(self, image: str) -> dict:
        row = {"mask": mask_name(image), "fault": ""} | asdict(self._plan.provenance)
        try:
            content = self._source.read(image)
            found = read_image(content, self._plan.max_pixels)
            begin = time.perf_counter()
            made = self._segment.run(
                found.pixels, self._plan.operating_point, self._plan.probability
            )
            row["ms"] = 1000 * (time.perf_counter() - begin)
            self._write(Task(Path(image), Path()), made, sha256(content))
        except Exception as error:  # one image never stops the others
            return row | {"fault": first_line(error)}
        if made.probability is not None:
            row["highest_probability"] = int(made.probability.max()) / 255
        counted = measure(found.pixels, made.mask)
        warning = "; ".join(filter(None, [*found.notes, counted.warning]))
        return row | asdict(counted) | {"share_of_body": counted.share_of_body, "warning": warning}

    def _write(self, task: Task, made: Prediction, image_sha256: str) -> None:
        """Write the files of an image, the mask last: it says that all are there."""
        pictures = {MASK: contract.encode_png(made.mask)}
        if made.probability is not None:
            pictures = {PROBABILITY: contract.encode_grey_png(made.probability)} | pictures
        for kind, png in pictures.items():
            record = self._plan.provenance.record(image_sha256, kind)
            self._out.write(task.path(kind).name, add_record(png, record))


def mask_name(image: str) -> str:
    """Return the name of the mask of `image`."""
    return Task(Path(image), Path()).mask.name


def remove_probabilities(out: Place, images: Iterable[str]) -> None:
    """Delete those of earlier masks of `images`: beside other masks they would misrepresent them.

    Raises `OSError`.
    """
    there = out.files()
    for image in images:
        name = Task(Path(image), Path()).path(PROBABILITY).name
        if name in there and record_of(out.read(name)):
            out.delete(name)
