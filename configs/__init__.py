"""YAML presets, installed with the package."""
