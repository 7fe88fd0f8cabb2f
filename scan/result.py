"""A series as it was read, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .lesions import Lesion
from .mip import Projection
from .options import Options
from .suv import Suv
from .volume import Upright, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Scan:
    """volume: in SUV; suv: how it follows from what is stored; headers: of the slices, from the
    first position along their normal, without pixels; none for NIfTI."""

    volume: Volume
    suv: Suv
    headers: tuple[Dataset, ...] = ()

    @property
    def header(self) -> Dataset | None:
        """Of the first slice, for what is the same in all."""
        return self.headers[0] if self.headers else None


@dataclass(frozen=True)
class Result:
    """body: the scan's volume, upright; mask: uint8 H×W of 0 and 255, like the view; model: its
    name, version, hash and operating point; warnings: lines."""

    scan: Scan
    options: Options
    body: Upright
    view: Projection
    mask: np.ndarray
    lesions: list[Lesion]
    model: dict[str, str | None]
    warnings: list[str]
