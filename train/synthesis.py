"""New training images from old ones: lesions transplanted onto other bodies, two people mixed.

A MIP is a maximum along rays, so the MIP of a body with a lesion added is the pixel-wise maximum
of the two uptakes: exact, except where the lesion would lie behind something hotter. Such places
are refused.

Mixing cuts across two images, as CutMix does (Yun et al. 2019, arXiv 1905.04899), at one row of
both: scans begin at the head and are centred, so it meets about the same organ.
"""

from collections import namedtuple

import numpy as np
from scipy import ndimage

from train.dataset import Case

HALO = 3  # pixels around the label that move along, so that the lesion keeps its soft edge
MOST_LESIONS = 40
BODY_UPTAKE = 20
SCALES = (0.7, 1.4)
GAINS = (0.6, 1.3)
ROW_JITTER, COLUMN_JITTER = 15.0, 10.0
ANYWHERE = 0.2  # share of lesions put anywhere in the body instead of where the donor had them
CUT = (0.15, 0.85)  # between which shares of the shorter image's height two people are mixed
Lesion = namedtuple("Lesion", "uptake truth row column")
"""uptake: float32 h×w, 0 outside the halo; truth: float32 h×w in 0..1; row, column: the centre, in
torso widths from the top of the image and the body's midline."""


def _midline_and_torso(uptake: np.ndarray) -> tuple[float, float]:
    """Column of the body's midline and the width of its torso, both in pixels."""
    body = uptake > BODY_UPTAKE
    columns = np.flatnonzero(body.mean(axis=0) > 0.02)
    if not columns.size:
        return uptake.shape[1] / 2, uptake.shape[1] / 2
    height = min(uptake.shape[0], 489)
    torso = body[int(height * 0.35) : int(height * 0.6) + 1]
    width = float(np.median(torso.sum(axis=1)))
    return (columns[0] + columns[-1]) / 2, max(width, 40.0)


def mix(one: Case, other: Case, rng: np.random.Generator) -> Case:
    """The upper body of either with the lower body of the other; `one` if their widths differ."""
    if one.uptake.shape[1] != other.uptake.shape[1]:
        return one
    upper, lower = (one, other) if rng.random() < 0.5 else (other, one)
    row = int(rng.uniform(*CUT) * min(len(one.uptake), len(other.uptake)))
    return Case(
        one.name,
        np.concatenate([upper.uptake[:row], lower.uptake[row:]]),
        np.concatenate([upper.truth[:row], lower.truth[row:]]),
    )


class Donor:
    """All lesions of one patient, ready to be placed elsewhere."""

    def __init__(self, case: Case) -> None:
        self.midline, self.torso = _midline_and_torso(case.uptake)
        grown = ndimage.binary_dilation(case.truth, iterations=HALO)
        groups, _ = ndimage.label(grown, np.ones((3, 3)))
        self.lesions = []
        for i, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
            halo = groups[rows, columns] == i
            self.lesions.append(
                Lesion(
                    uptake=np.where(halo, case.uptake[rows, columns], 0).astype(np.float32),
                    truth=(case.truth[rows, columns] & halo).astype(np.float32),
                    row=(rows.start + rows.stop) / 2 / self.torso,
                    column=((columns.start + columns.stop) / 2 - self.midline) / self.torso,
                )
            )

    def choose(self, rng: np.random.Generator) -> list[Lesion]:
        """All lesions as often as a few of them, at most MOST_LESIONS."""
        few = rng.integers(1, 6) if rng.random() < 0.5 else MOST_LESIONS
        count = min(few, len(self.lesions), MOST_LESIONS)
        return [self.lesions[i] for i in rng.choice(len(self.lesions), count, replace=False)]


def transplant(case: Case, donor: Donor, rng: np.random.Generator) -> Case:
    """The case with lesions of the donor: side, scale, uptake and place vary around its anatomy."""
    uptake, truth = case.uptake.copy(), case.truth.copy()
    midline, torso = _midline_and_torso(uptake)
    size = np.clip(torso / donor.torso, *SCALES) * rng.uniform(0.75, 1.3)
    gain = rng.uniform(*GAINS)
    mirrored = rng.random() < 0.5
    shift = rng.normal(0, (ROW_JITTER, COLUMN_JITTER))
    body = None
    for lesion in donor.choose(rng):
        if rng.random() < ANYWHERE:
            body = np.argwhere(uptake > BODY_UPTAKE) if body is None else body
            if not len(body):
                continue
            row, column = body[rng.integers(len(body))]
        else:
            side = -1 if mirrored else 1
            row = lesion.row * torso + shift[0]
            column = midline + side * lesion.column * torso + shift[1]
        _add(uptake, truth, lesion, (row, column), size, gain, mirrored)
    return Case(case.name, uptake, truth)


def _add(
    uptake: np.ndarray, truth: np.ndarray, lesion: Lesion, centre: tuple[float, float],
    size: float, gain: float, mirrored: bool,
) -> None:  # fmt: skip
    """Take the maximum of body and lesion in place, unless the body is hotter there."""
    new_uptake = ndimage.zoom(lesion.uptake, size, order=1)
    new_truth = ndimage.zoom(lesion.truth, size, order=1) > 0.5
    if mirrored:
        new_uptake, new_truth = new_uptake[:, ::-1], new_truth[:, ::-1]
    height, width = new_uptake.shape
    top, left = int(centre[0] - height / 2), int(centre[1] - width / 2)
    rows = slice(max(top, 0), max(top + height, 0))
    columns = slice(max(left, 0), max(left + width, 0))
    below = uptake[rows, columns]
    first = rows.start - top, columns.start - left
    cut = tuple(slice(i, i + size) for i, size in zip(first, below.shape, strict=True))
    new_uptake, new_truth = np.minimum(new_uptake[cut] * gain, 255), new_truth[cut]
    if not new_truth.any() or below[new_truth].mean() > 0.6 * new_uptake[new_truth].mean():
        return
    truth[rows, columns] |= new_truth & (new_uptake >= below)
    uptake[rows, columns] = np.maximum(below, new_uptake.astype(np.uint8))
