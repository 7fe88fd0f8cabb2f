"""Draws a patient that nobody is: a whole-body FDG-PET projection with tumours, and their mask.

For trying a model out, for benchmarks, tests and examples, where a real patient's image must not
be. The drawing has the look of the challenge's images, not their physics.
"""

from __future__ import annotations

import numpy as np

# The body is drawn in the units of the challenge's images: 400 wide, the crown of the head near
# row 0, the feet near row 860. Trunk images end at row 426.
WIDTH, TRUNK = 400, 426
MIDDLE = 200

# Row -> half the width of the body there, and of one leg.
TRUNK_OUTLINE = np.array([(58, 13), (72, 17), (84, 50), (110, 56), (170, 52), (235, 47), (300, 58)])
TRUNK_OUTLINE = np.concatenate([TRUNK_OUTLINE, [(345, 62), (372, 58)]])
LEG_OUTLINE = np.array([(340, 31), (400, 30), (480, 25), (560, 17), (620, 19), (760, 9), (790, 8)])
LEG_OUTLINE = np.concatenate([LEG_OUTLINE, [(815, 12), (855, 10)]])
LEG_MIDDLE = np.array([(340, 31), (560, 27), (790, 17), (855, 20)])  # row -> distance from middle

# Uptake 0 is white, 1 and above is black.
BODY, BONE, BLOOD, LIVER, BLADDER, BRAIN = 0.13, 0.24, 0.22, 0.33, 2.6, 2.6
# What is called tumour of a lesion: the part above this share of its uptake.
TUMOUR_SHARE = 0.41

Window = tuple[slice, slice]


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
    random = np.random.RandomState(seed)
    scale = min(width / WIDTH, height / TRUNK)
    canvas = _Canvas(height, width, scale)

    _draw_outline(canvas)
    _draw_organs(canvas, random)
    noise = random.random_sample((height + 2, width + 2)) - 0.5
    noise = noise[:-2] + noise[1:-1] + noise[2:]
    noise = noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]
    canvas.uptake *= 1 + 0.16 * noise

    truth = np.zeros((height, width), bool)
    for _ in range(lesions):
        truth |= _draw_lesion(canvas, random)
    pixels = np.round(255 * (1 - np.clip(canvas.uptake, 0, 1))).astype(np.uint8)
    return pixels, np.where(truth, np.uint8(255), np.uint8(0))


class _Canvas:
    """Uptake, float64 H×W, on which parts are laid as in a projection: the hottest one is seen."""

    def __init__(self, height: int, width: int, scale: float) -> None:
        self.scale = scale
        self.x = ((np.arange(width) + 0.5 - width / 2) / scale + MIDDLE)[None, :]
        self.y = ((np.arange(height) + 0.5) / scale)[:, None]
        self.uptake = np.zeros((height, width))

    @property
    def bottom(self) -> float:
        """The last row in view, in the body's units."""
        return float(self.y[-1, 0])

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, uptake: float, lean: float = 0.0
    ) -> tuple[Window, np.ndarray]:
        """Lay an ellipse with a soft edge; return its window of the image and its uptake there."""
        reach = rx * 1.3 + abs(lean) * ry * 1.3
        window = self._window(x - reach, y - ry * 1.3, x + reach, y + ry * 1.3)
        down = self.y[window[0]] - y
        across = self.x[:, window[1]] - x - lean * down
        distance = np.sqrt((across / rx) ** 2 + (down / ry) ** 2)
        softness = min(0.6, 3 / min(rx, ry))
        part = uptake * np.clip(0.5 + (1 - distance) / softness, 0, 1)
        self._lay(window, part)
        return window, part

    def column(self, outline: np.ndarray, middle: np.ndarray | float, uptake: float) -> None:
        """Lay a limb that runs down the image: half its width and its middle for each row."""
        half = np.interp(self.y, outline[:, 0], outline[:, 1])
        inside = (self.y >= outline[0, 0]) & (self.y <= outline[-1, 0])
        depth = np.clip(1 - ((self.x - middle) / half) ** 2, 0, 1) * inside
        self._lay_depth((slice(None), slice(None)), depth, uptake)

    def limb(
        self, x0: float, y0: float, x1: float, y1: float, radius: float, uptake: float
    ) -> None:
        """Lay a limb that runs down the image from one point to another, `y0` <= `y1`."""
        left, right = min(x0, x1), max(x0, x1)
        window = self._window(left - radius, y0 - radius, right + radius, y1 + radius)
        down, across = self.y[window[0]] - y0, self.x[:, window[1]] - x0
        dx, dy = x1 - x0, y1 - y0
        along = np.clip((across * dx + down * dy) / (dx * dx + dy * dy), 0, 1)
        off = (across - along * dx) ** 2 + (down - along * dy) ** 2
        self._lay_depth(window, np.clip(1 - off / radius**2, 0, 1), uptake)

    def _window(self, left: float, top: float, right: float, bottom: float) -> Window:
        rows = np.searchsorted(self.y[:, 0], (top, bottom))
        columns = np.searchsorted(self.x[0], (left, right))
        return slice(*rows), slice(*columns)

    def _lay_depth(self, window: Window, depth: np.ndarray, uptake: float) -> None:
        # The thicker the body, the more likely a ray meets something hot on its way.
        self._lay(window, uptake * np.minimum(1, 3 * depth) * (0.5 + 0.5 * np.sqrt(depth)))

    def _lay(self, window: Window, part: np.ndarray) -> None:
        self.uptake[window] = np.maximum(self.uptake[window], part)


def _draw_outline(canvas: _Canvas) -> None:
    canvas.ellipse(MIDDLE, 33, 23, 33, BODY * 0.9)
    canvas.column(TRUNK_OUTLINE, MIDDLE, BODY)
    for side in (-1, 1):
        middle = MIDDLE + side * np.interp(canvas.y, LEG_MIDDLE[:, 0], LEG_MIDDLE[:, 1])
        canvas.column(LEG_OUTLINE, middle, BODY)
        canvas.ellipse(MIDDLE + side * 21, 855, 11, 9, BODY)
        canvas.limb(MIDDLE + side * 68, 42, MIDDLE + side * 44, 95, 13, BODY * 0.9)
        canvas.limb(MIDDLE + side * 26, 2, MIDDLE + side * 68, 42, 9, BODY * 0.9)


def _draw_organs(canvas: _Canvas, random: np.random.RandomState) -> None:
    def about(value: float, share: float) -> float:
        return value * (1 + share * (2 * random.random_sample() - 1))

    canvas.ellipse(MIDDLE, 24, 19, 21, BRAIN)
    canvas.ellipse(MIDDLE, 58, 9, 4, about(0.35, 0.4))  # mouth and throat
    for row in range(72, 335, 13):
        canvas.ellipse(MIDDLE, row, 7.5, 5.2, about(BONE, 0.15))
    for side in (-1, 1):
        for row in range(96, 190, 12):
            canvas.limb(MIDDLE + side * 9, row, MIDDLE + side * 46, row + 16, 2.2, BONE * 0.7)
        canvas.ellipse(MIDDLE + side * 33, 318, 20, 16, BONE * 0.75, lean=-side * 0.3)
        canvas.limb(MIDDLE + side * 34, 372, MIDDLE + side * 26, 600, 3, BLOOD * 0.8)
    canvas.ellipse(MIDDLE + 4, 135, 17, 34, BLOOD)
    # The heart's wall takes up next to nothing or very much, as the patient fasted.
    canvas.ellipse(MIDDLE + 23, 172, 15, 12.5, about(0.75, 0.65), lean=0.3)
    liver = about(LIVER, 0.12)
    canvas.ellipse(MIDDLE - 27, 212, 27, 30, liver, lean=-0.1)
    canvas.ellipse(MIDDLE - 6, 198, 37, 14, liver)
    canvas.ellipse(MIDDLE + 37, 212, 11, 17, liver * 0.85)
    for side in (-1, 1):
        canvas.ellipse(MIDDLE + side * 36, 255, 10, 18, about(0.42, 0.2), lean=-side * 0.25)
        for calyx in (-9, -2, 6):
            x = MIDDLE + side * (33 - calyx * 0.25 * side)
            canvas.ellipse(x, 255 + calyx, 3.2, 3.6, about(0.95, 0.4))
        canvas.limb(MIDDLE + side * 30, 268, MIDDLE + side * 14, 335, 1.3, about(0.3, 0.8))
    x, y = MIDDLE - 38.0, 300.0
    for _ in range(40):  # a bowel that wanders up, across and down
        x = min(MIDDLE + 40.0, x + about(2.0, 1.6))
        y = min(312.0, max(262.0, y + 14 * (random.random_sample() - 0.5)))
        canvas.ellipse(x, y, 4, 4, about(BONE, 0.4))
    canvas.ellipse(MIDDLE + about(0, 1), 352, about(17, 0.25), about(10, 0.3), BLADDER)


def _draw_lesion(canvas: _Canvas, random: np.random.RandomState) -> np.ndarray:
    """Lay a few spheres that touch each other; return bool H×W, where they are tumour."""
    truth = np.zeros(canvas.uptake.shape, bool)
    lowest = min(330.0, 0.8 * canvas.bottom)
    x = MIDDLE + 80 * (random.random_sample() - 0.5)
    y = 70 + (lowest - 70) * random.random_sample()
    uptake, size = 0.7 + 0.8 * random.random_sample(), 2.5 + 6 * random.random_sample() ** 2
    for _ in range(random.randint(1, 6)):
        radii = size * (0.7 + 0.6 * random.random_sample(2))
        window, part = canvas.ellipse(x, y, *radii, uptake)
        truth[window] |= part > TUMOUR_SHARE * uptake
        x, y = np.array([x, y]) + 2.2 * size * (random.random_sample(2) - 0.5)
    return truth
