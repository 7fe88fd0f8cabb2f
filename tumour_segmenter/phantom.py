"""A synthetic phantom: a body in FDG-PET with tumours, as a volume and as its projection.

For trying a model out, for benchmarks, tests and examples, where a real patient's image must not
be. Organs are smooth volumes with the uptake that they usually have, the image is the maximum
along the body's depth, as in the challenge's images.
"""

from __future__ import annotations

import numpy as np

# The body is laid out in the pixels of the challenge's images, about 2 mm: x from the middle to
# the patient's left, y from the middle to the back, z from the top of the image to the feet. Images
# of the trunk end at 426; below FEET there is only air.
WIDTH, TRUNK, FEET = 400, 426, 876
PIXEL_MM = 2.036
# One voxel in these pixels: z, y, x. The challenge's images have three rows for two slices.
VOXEL = (1.5, 2.0, 2.0)
ROWS, COLUMNS = 64, 120  # of the box that holds the body
BLACK = 7.0  # this SUV and above is black in the image
TUMOUR_SHARE = 0.41  # the part of a lesion above this share of its uptake is called tumour
EDGE = 5.0  # pixels over which an organ's uptake fades, as the scanner blurs it

TISSUE = np.float32(0.4)  # SUV of fat and muscle
# Noise in SUV: what each voxel has, and what it has for each SUV of its uptake.
FAINT_NOISE, NOISE = np.float32(0.26), np.float32(0.15)
# Organs, lesions and noise have random numbers of their own, so that another height or number of
# lesions leaves the rest as it is.
ORGAN_NUMBERS, LESION_NUMBERS, NOISE_NUMBERS = 0, 69, 2

# z, half the width and half the depth of the head and trunk there.
TRUNK_OUTLINE = np.array(
    [
        (4, 8, 10), (12, 26, 30), (30, 37, 44), (60, 38, 46), (85, 31, 36), (100, 27, 29),
        (120, 29, 28), (134, 62, 34), (150, 86, 42), (180, 88, 52), (220, 86, 54), (270, 84, 52),
        (310, 84, 52), (350, 90, 54), (390, 94, 54), (418, 92, 50), (432, 84, 44),
    ],
    float,
)  # fmt: skip
# Limbs on either side: x, z and radius of one end and the other.
LIMBS = (
    (70, 146, 24, 93, 40, 19),  # upper arm, raised
    (93, 40, 18, 62, -20, 14),
    (47, 400, 46, 36, 600, 24),  # thigh
    (36, 600, 24, 33, 690, 24),
    (33, 690, 24, 27, 810, 11),
    (27, 810, 12, 30, 850, 11),
)
# Where lesions are put: x, y, z, and how far from there at most.
SITES = (
    (-58, 0, 178, 9), (52, 5, 170, 9),  # lungs
    (-24, 0, 168, 6), (20, 5, 150, 6),  # hilum, mediastinum
    (-24, 0, 130, 4), (25, 0, 128, 4),  # above the collarbones
    (-72, 5, 158, 5), (72, 5, 160, 5),  # armpits
    (-8, 14, 318, 8), (12, 14, 326, 8),  # along the aorta
    (-46, 10, 366, 8), (48, 10, 368, 8),  # pelvis
)  # fmt: skip


def phantom(
    height: int = 489, width: int = 400, lesions: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (pixels, truth): grey uint8 H×W, dark = hot, and a mask uint8 H×W, 255 = tumour.

    Any height and width of at least 1; in an image narrower or lower than the challenge's (400 and
    426) the body shrinks to fit, a higher one shows more of the legs. The same arguments give the
    same pixels on every machine: random numbers come from numpy's frozen generator, and nothing
    is computed with that rounds differently elsewhere.
    """
    if height < 1 or width < 1 or lesions < 0:
        raise ValueError(f"cannot draw {lesions} lesions on {height}×{width} pixels")
    scale = min(width / WIDTH, height / TRUNK)
    slices = int(np.ceil(height / scale / VOXEL[0]))
    suv, share = (part.max(axis=1) for part in _body(slices, lesions, seed))

    z = (np.arange(height) + 0.5) / scale / VOXEL[0]
    nearest = np.minimum(z.astype(int), len(suv) - 1)
    x = (np.arange(width) + 0.5 - width / 2) / scale / VOXEL[2] + COLUMNS / 2 - 0.5
    left = np.clip(np.floor(x).astype(int), 0, COLUMNS - 2)
    weight = np.clip(x - left, 0, 1)  # beside the box there is air, as at its edge

    def enlarged(part: np.ndarray) -> np.ndarray:
        part = part[nearest].astype(float)
        return part.take(left, axis=1) * (1 - weight) + part.take(left + 1, axis=1) * weight

    pixels = np.round(255 * (1 - np.clip(enlarged(suv) / BLACK, 0, 1))).astype(np.uint8)
    return pixels, np.where(enlarged(share) > TUMOUR_SHARE, np.uint8(255), np.uint8(0))


def volume(
    seed: int = 0, lesions: int = 3, height: int = 489
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Return (suv, truth, spacing) of the body whose projection `phantom` draws.

    suv: float32 [slices, rows, columns], standardised uptake values, at least 0. Slice 0 is at the
    crown, row 0 in front, column 0 at the patient's right. truth: bool of the same shape, where
    there is tumour. spacing: of slices, rows and columns, in mm. `height`: rows of the image.
    """
    suv, share = _body(int(np.ceil(height / VOXEL[0])), lesions, seed)
    beside = (int(WIDTH / VOXEL[2]) - COLUMNS) // 2
    suv, truth = (
        np.pad(part, ((0, 0), (0, 0), (beside, beside))) for part in (suv, share > TUMOUR_SHARE)
    )
    return suv, truth, tuple(PIXEL_MM * size for size in VOXEL)


class _Box:
    """Uptake, float32 [slices, rows, columns], in which parts are laid; the hottest one stays."""

    def __init__(self, slices: int) -> None:
        shape = (slices, ROWS, COLUMNS)
        centres = (0, ROWS / 2, COLUMNS / 2)
        self.axes = [
            ((np.arange(n) + 0.5 - centre) * size).astype(np.float32)
            for n, centre, size in zip(shape, centres, VOXEL, strict=True)
        ]
        self.uptake = np.zeros(shape, np.float32)

    def part(self, place: np.ndarray, radii: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return where an ellipsoid with a soft edge is, and its uptake there, 0 to 1.

        place, radii: x, y, z.
        """
        radii = np.array(radii[::-1], np.float32)
        reach = radii + EDGE
        place = np.array(place[::-1], np.float32)
        window = tuple(
            slice(*np.searchsorted(axis, (p - r, p + r)))
            for axis, p, r in zip(self.axes, place, reach, strict=True)
        )
        z, y, x = (
            np.square((axis[part] - p) / r)
            for axis, part, p, r in zip(self.axes, window, place, radii, strict=True)
        )
        distance = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])
        inside = (1 - distance) * (radii.min() / np.float32(EDGE)) + np.float32(0.5)
        return window, np.clip(inside, 0, 1)

    def lay(self, window: tuple[slice, ...], part: np.ndarray) -> None:
        np.maximum(self.uptake[window], part, out=self.uptake[window])

    def organ(self, place: tuple, radii: tuple, uptake: float) -> None:
        window, part = self.part(place, radii)
        self.lay(window, part * np.float32(uptake))

    def hollow(self, place: tuple, radii: tuple, uptake: float) -> None:
        """Set an ellipsoid to `uptake`, though there was more."""
        window, part = self.part(place, radii)
        self.uptake[window] += (np.float32(uptake) - self.uptake[window]) * part

    def column(self, z: np.ndarray, x: np.ndarray, rx: np.ndarray, ry: np.ndarray, uptake: float):
        """Lay a limb that runs down the body: its middle and radii for each of increasing `z`."""
        first, last = np.searchsorted(self.axes[0], (z[0], z[-1]))
        at = self.axes[0][first:last].astype(float)
        if not len(at):
            return
        middle, rx, ry = (
            np.interp(at, z, values).astype(np.float32)[:, None, None] for values in (x, rx, ry)
        )
        left, right = np.searchsorted(
            self.axes[2], ((middle - rx).min() - EDGE, (middle + rx).max() + EDGE)
        )
        across = np.square((self.axes[2][None, None, left:right] - middle) / rx)
        deep = np.square(self.axes[1][None, :, None] / ry)
        inside = (1 - np.sqrt(across + deep)) * (np.minimum(rx, ry) / np.float32(EDGE)) + 0.5
        window = (slice(first, last), slice(None), slice(left, right))
        self.lay(window, np.clip(inside, 0, 1).astype(np.float32) * np.float32(uptake))


def _body(slices: int, lesions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return SUV, and what share of its lesion's uptake each voxel has.

    Both are float32 [Z, ROWS, COLUMNS]; Z is `slices`, or fewer where the feet end above.
    """
    slices = min(slices, int(FEET / VOXEL[0]))
    box = _Box(slices)
    _lay_outline(box)
    _lay_organs(box, np.random.RandomState([seed, ORGAN_NUMBERS]))
    share = np.zeros_like(box.uptake)
    random = np.random.RandomState([seed, LESION_NUMBERS])
    sites = random.permutation(len(SITES))
    for number in range(lesions):
        _lay_lesion(box, share, SITES[sites[number % len(SITES)]], random)

    shape = [n + 1 for n in box.uptake.shape]
    noise = np.random.RandomState([seed, NOISE_NUMBERS]).random_sample(shape).astype(np.float32)
    noise -= np.float32(0.5)
    noise = noise[:-1] + noise[1:]
    noise = noise[:, :-1] + noise[:, 1:]
    noise = noise[:, :, :-1] + noise[:, :, 1:]
    # What is faint is counted least often, so it is the noisiest for its size.
    spread = FAINT_NOISE * np.minimum(1, box.uptake / TISSUE) + NOISE * box.uptake
    return np.maximum(0, box.uptake + spread * noise), share


def _lay_outline(box: _Box) -> None:
    z, rx, ry = TRUNK_OUTLINE.T
    box.column(z, np.zeros_like(z), rx, ry, TISSUE)
    for side in (-1, 1):
        for x0, z0, r0, x1, z1, r1 in LIMBS:
            ends = np.array([(z0, x0, r0), (z1, x1, r1)], float)
            z, x, r = ends[np.argsort(ends[:, 0])].T
            box.column(z, side * x, r, r, TISSUE)
            box.organ((side * x0, 0, z0), (r0, r0, r0), TISSUE)


def _lay_organs(box: _Box, random: np.random.RandomState) -> None:
    def about(value: float, share: float) -> float:
        return value * (1 + share * (2 * random.random_sample() - 1))

    for side in (-1, 1):  # lungs
        box.hollow((side * 45, 0, 178), (30, 36, 46), 0.25)
    box.organ((0, 2, 38), (30, 36, 31), 11)  # brain
    box.organ((0, -12, 92), (20, 14, 12), about(1.1, 0.1))  # mouth and throat
    box.organ((0, -12, 90), (8, 8, 7), about(1.6, 0.2))
    for side in (-1, 1):
        box.organ((side * 25, 6, 86), (10, 12, 16), about(0.9, 0.1))
    for z in range(100, 392, 12):
        box.organ((0, 28, z), (10, 11, 8), about(1.05, 0.1))  # vertebra
    for side in (-1, 1):
        box.organ((side * 42, 18, 366), (26, 16, 26), about(0.7, 0.1))
        box.organ((side * 58, 6, 402), (13, 13, 14), about(0.8, 0.1))
        box.organ((side * 82, 6, 140), (13, 13, 13), about(0.8, 0.1))
        vessel = np.array([380.0, 520, 640])
        box.column(vessel, side * np.array([34.0, 26, 26]), *2 * [np.array([4.0, 4, 4])], 1.0)
    z = np.array([100.0, 125, 160, 185, 210, 225])  # blood in the neck, the chest and the heart
    half = np.array([3.0, 11, 20, 24, 26, 20])
    box.column(z, np.array([0.0, 2, 3, 5, 8, 12]), half, half * 0.9, about(1.4, 0.08))
    aorta = np.array([150.0, 200, 330])
    box.column(aorta, np.array([10.0, 8, 4]), *2 * [np.array([9.0, 8, 7])], 1.4)
    box.organ((26, -16, 200), (21, 19, 18), about(1.8, 0.25))  # the heart of who fasted
    liver = about(2.1, 0.08)
    box.organ((-42, 0, 240), (37, 42, 44), liver)
    box.organ((-10, -16, 222), (44, 26, 20), liver)
    box.organ((54, 20, 236), (18, 22, 24), liver * 0.8)  # spleen
    box.organ((30, -14, 240), (26, 20, 20), about(1.2, 0.1))  # stomach
    for side in (-1, 1):  # kidneys
        box.organ((side * 42, 32, 274), (14, 14, 26), about(2.1, 0.08))
        for dz in (-14, -8, -2, 4, 10, 16):
            bend = 5 - dz * dz / 50
            place = (side * (40 + bend * random.random_sample()), 32, 274 + dz)
            box.organ(place, (4.5, 4.5, 4.5), about(3.9, 0.3))
    for x, z in ((-56, 318), (56, 318)):  # colon
        box.organ((x, -8, z), (12, 14, 40), about(1.15, 0.1))
    x, z = -50.0, 330.0
    for _ in range(50):  # small bowel
        x = min(50.0, x + about(2, 0.8))
        z = min(356.0, max(290.0, z + 24 * (random.random_sample() - 0.5)))
        box.organ((x, -22, z), (14, 14, 13), about(1.05, 0.1))
    box.organ((about(0.5, 1), -8, 400), (about(19, 0.15), 17, about(13, 0.15)), 30)  # bladder
    box.organ((0, -30, 440), (9, 12, 26), about(1.3, 0.1))


def _lay_lesion(box: _Box, share: np.ndarray, site: tuple, random: np.random.RandomState) -> None:
    """Lay a few ellipsoids that touch each other."""
    *place, around = site
    place = np.array(place) + around * (2 * random.random_sample(3) - 1)
    uptake, size = 7 + 7 * random.random_sample(), 4 + 4 * random.random_sample()
    for _ in range(random.randint(1, 5)):
        radii = size * (0.8 + 0.5 * random.random_sample(3))
        window, part = box.part(place, radii)
        box.lay(window, part * np.float32(uptake))
        np.maximum(share[window], part, out=share[window])
        place = place + 2 * size * (random.random_sample(3) - 0.5)
