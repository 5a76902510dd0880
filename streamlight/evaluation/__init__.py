"""Metrics, data sets, reports, benchmarks."""
