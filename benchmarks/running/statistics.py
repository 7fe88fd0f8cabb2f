"""Percentiles that were really measured, and how sure a mean is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest measured value that at least `q` percent (0..100) of `values` do not exceed.

    Nearest rank, never interpolated: a latency that is reported was really waited for.
    """
    return float(np.percentile(values, q, method="inverted_cdf"))


def spread_ms(seconds: Sequence[float]) -> dict[str, float] | None:
    """Median, p99 and maximum in ms, rounded; None if there is nothing."""
    if not seconds:
        return None
    ms = {f"p{q}": 1000 * percentile(seconds, q) for q in (50, 99)} | {"max": 1000 * max(seconds)}
    return {name: round(value, 1) for name, value in ms.items()}


def interval(
    values: np.ndarray, of: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of sum(values) / sum(of), both float (images,), by resampling images.

    Without `of` it is that of the mean. NaN where there is nothing to resample.
    """
    values = np.asarray(values, float)
    of = np.ones_like(values) if of is None else np.asarray(of, float)
    if not of.sum():
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    chosen = random.integers(len(values), size=(RESAMPLES, len(values)))
    sums, totals = values[chosen].sum(axis=1), of[chosen].sum(axis=1)
    low, high = np.percentile(sums[totals > 0] / totals[totals > 0], [2.5, 97.5])
    return float(low), float(high)
