"""Detectors, and where their results go."""
