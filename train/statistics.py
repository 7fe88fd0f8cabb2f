"""Means over images and how sure they are."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000


def mean_and_error(values: Sequence[float]) -> list[float]:
    """Of two or more: the mean and its standard error, to four digits."""
    mean, spread = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    return [round(float(mean), 4), round(float(spread), 4)]


def resamples(count: int) -> np.ndarray:
    """int RESAMPLES×count: indices of images, drawn with replacement, the same in each call."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


def interval(values: Sequence[float], counts: Sequence[float] | None = None) -> list[float]:
    """The 95 % bootstrap interval, over images, of sum(values) / sum(counts), or of the mean."""
    values, counts = np.array(values), np.array(counts or [1] * len(values))
    drawn = resamples(len(values))
    ratios = values[drawn].sum(axis=1) / np.maximum(counts[drawn].sum(axis=1), 1)
    return percentiles(ratios)


def percentiles(resampled: np.ndarray) -> list[float]:
    """The ends of the 95 % interval of what resamples give, to four digits."""
    return [round(float(end), 4) for end in np.percentile(resampled, (2.5, 97.5))]
