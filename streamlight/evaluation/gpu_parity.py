"""Whether a model gives on a device what it gives on the CPU."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from streamlight.evaluation.gpu_measure import build_model
from streamlight.evaluation.gpu_parts import Parts
from streamlight.evaluation.gpu_rows import ROWS, GpuOrder
from streamlight.models.precision import exact_float32


def measure_parity(order: GpuOrder, parts: Parts) -> None:
    """How far a model's picture on the device is from that on the CPU, in float32."""
    row, device, figures = ROWS[order.row], torch.device(order.device), parts.sample.figures
    with parts.part("parity"):
        here = build_model(row, dtype="float32", device=torch.device("cpu"), quick=True)
        model = deepcopy(here).to(device)
        expected, latent = parity_picture(here)
        span = float(expected.max() - expected.min())
        if not math.isfinite(span) or span <= 0.0:
            raise ValueError(f"the CPU's picture has no range to compare with ({span})")
        exact_float32()
        apart = _apart(model, device, expected, latent)
        figures["parity"] = float(apart.max()) / span
        figures["parity_share"] = float((apart > 1e-3 * span).float().mean())


@torch.inference_mode()
def parity_picture(model: Any, latent: Tensor | None = None, device: str | torch.device = "cpu") -> Any:
    """A small dark picture made bright, and the latent that was drawn for it if none was given."""
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(1, 3, 96, 128, generator=generator)
    ycbcr = model.card.color == "ycbcr"
    low = torch.cat([0.2 * low[:, :1], 0.1 * (low[:, 1:] - 0.5)], 1) if ycbcr else 0.15 * low
    noise = torch.full((1,), 0.01) if ycbcr else None
    condition = model.condition(low.to(device), noise=None if noise is None else noise.to(device))
    prior = model.prior(condition)
    if latent is None:
        drawn = torch.randn(prior.mean.shape, generator=generator)
        latent = prior.mean.cpu() + model.temperature * torch.as_tensor(prior.std).cpu() * drawn
    return model.decode(latent.to(device), condition).float().cpu(), latent


def _apart(model: Any, device: torch.device, expected: Tensor, latent: Tensor) -> Tensor:
    return (parity_picture(model, latent, device)[0] - expected).abs()
