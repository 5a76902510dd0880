"""Enhancement without weights: exposure and illumination estimated on the small copy."""
