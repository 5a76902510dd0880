"""LatencyHistogram against exact percentiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamlight.engine import LatencyHistogram


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_match_numpy(seed):
    values = np.random.default_rng(seed).lognormal(-4, 1.5, 4000)
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(float(value))
    for q in (0, 5, 50, 95, 99, 100):
        exact = np.percentile(values, q, method="inverted_cdf")
        assert histogram.percentile(q) == pytest.approx(exact, rel=0.02)
    assert histogram.summary()["max"] == values.max()
    assert histogram.summary()["count"] == 4000


def test_extremes_stay_in_bounds():
    histogram = LatencyHistogram()
    for value in (0.0, -1.0, 1e-9, 1e9, math.inf):
        histogram.add(value)
    assert histogram.count == 5
    assert histogram.percentile(1) <= 2e-5
    with pytest.raises(ValueError, match="NaN"):
        histogram.add(math.nan)
    with pytest.raises(ValueError, match="0 to 100"):
        histogram.percentile(101)


def test_empty():
    assert LatencyHistogram().summary() == {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


def test_cumulative_counts_and_the_sum_serve_other_histograms():
    histogram = LatencyHistogram()
    for value in (0.0, 0.004, 0.03, 0.03, 0.2, 5e4):
        histogram.add(value)
    assert histogram.cumulative([1e-6, 0.005, 0.05, 1.0, 1e9]) == [0, 2, 4, 5, 6]
    assert histogram.total == pytest.approx(50000.264)
