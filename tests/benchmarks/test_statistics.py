"""Percentiles are values that were measured."""

from benchmarks.running.statistics import percentile, spread_ms


def test_percentiles_are_measured_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, q) for q in (0, 50, 80, 81, 99, 100)] == [1, 3, 4, 5, 5, 5]
    assert percentile([7.0], 99) == 7


def test_a_spread_is_in_milliseconds_or_not_there() -> None:
    assert spread_ms([0.001, 0.002, 0.1]) == {"p50": 2.0, "p99": 100.0, "max": 100.0}
    assert spread_ms([]) is None
