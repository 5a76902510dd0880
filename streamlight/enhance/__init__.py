"""Makes a video enhancer out of a model. The only room that joins models and temporal."""
