"""Whether probabilities are calibrated: of pixels at 30 %, do three in ten lie in tumour?

The reliability diagram and the expected calibration error (Guo et al. 2017, "On calibration of
modern neural networks", arXiv 1706.04599), of pixels by tenths of the probability.
"""

from collections.abc import Sequence

import numpy as np

from train.statistics import percentiles, resamples

BINS = 10
LEAST = 0.1  # the second error is of the pixels from here on: nearly all others are plainly healthy


def counts(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One image, float H×W in 0..1 and bool H×W -> float BINS×3: in each bin pixels, the sum of
    their probabilities, tumour pixels."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1).ravel()
    columns = (None, probability.ravel(), truth.ravel())
    return np.stack([np.bincount(place, weights=of, minlength=BINS) for of in columns], axis=1)


def expected_error(of_bins: np.ndarray, least: float = 0) -> np.ndarray:
    """float ...×BINS×3 of `counts`, summed over images -> the mean distance of probability and
    tumour share, each bin weighed by its pixels; of the bins from `least` on."""
    pixels, probability, tumour = np.moveaxis(of_bins[..., round(least * BINS) :, :], -1, 0)
    return np.abs(probability - tumour).sum(-1) / np.maximum(pixels.sum(-1), 1)


def summary(of_images: Sequence[np.ndarray]) -> dict:
    """What `counts` gave for each image -> the errors with their 95 % bootstrap intervals over
    images, and a row for each bin that has pixels: pixels, mean probability, share of tumour,
    and the interval of that share."""
    images = np.array(of_images)
    drawn = np.array([images[chosen].sum(axis=0) for chosen in resamples(len(images))])
    total = images.sum(axis=0)
    pixels, probability, tumour = total.T
    shares = drawn[..., 2] / np.maximum(drawn[..., 0], 1)

    def error(least: float) -> list:
        ends = percentiles(expected_error(drawn, least))
        return [round(float(expected_error(total, least)), 4), ends]

    return {
        "expected_calibration_error": error(0),
        "expected_calibration_error_from_a_tenth": error(LEAST),
        "bins": [
            [
                int(pixels[i]),
                *(round(float(of[i] / pixels[i]), 4) for of in (probability, tumour)),
                percentiles(shares[:, i]),
            ]
            for i in np.flatnonzero(pixels)
        ],
    }
