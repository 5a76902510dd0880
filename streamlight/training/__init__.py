"""Data, degradation, losses, recipes."""
