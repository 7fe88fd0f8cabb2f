"""The served model, opened for scans."""

from __future__ import annotations

import numpy as np

from tumour_segmenter.cpus import available_cpus
from tumour_segmenter.segmenter import Baseline, Prediction, Segmenter, check_option, open_model
from tumour_segmenter.settings import named_model


class Model:
    """`model(pixels)` gives mask and probability; the rest says what the model is, for reports.

    hash: SHA-256 of its file, None for the baseline.
    """

    def __init__(self, segmenter: Segmenter | Baseline, operating_point: str | None) -> None:
        about = segmenter.metadata
        self._segmenter, self._given = segmenter, operating_point
        self.name, self.version = about.get("name"), about.get("version")
        self.hash = about.get("sha256")
        self.operating_point = operating_point or about.get("operating_point")

    @classmethod
    def load(cls, operating_point: str | None = None) -> Model:
        """Open the model that the server would serve.

        Raises `ArtifactError`, `SettingsError`, and `UsageError` for an operating point that the
        model does not have.
        """
        segmenter = open_model(named_model(), available_cpus())
        check_option(segmenter.operating_points, operating_point)
        return cls(segmenter, operating_point)

    def __call__(self, pixels: np.ndarray) -> Prediction:
        """Turn grey pixels, uint8 H×W, dark = hot, into a mask, uint8 H×W of 0 and 255, and the
        probability, uint8 H×W of 255 p, None where the model outputs none."""
        asked = self._segmenter.has_probability
        return self._segmenter.run(pixels, self._given, probability=asked)

    def as_json(self) -> dict[str, str | None]:
        """Name, version, hash and operating point."""
        return {
            "name": self.name,
            "version": self.version,
            "hash": self.hash,
            "operating_point": self.operating_point,
        }
