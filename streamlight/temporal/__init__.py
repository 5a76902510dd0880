"""Motion, latent smoothing, scene cuts, noise. Tensors in, tensors out; per-stream state lives here."""
