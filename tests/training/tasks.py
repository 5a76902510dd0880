"""Shapes small enough to train in a test, pictures to train on, and what holds for every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.models.weights import write_safetensors
from streamlight.training.task import Batch, Task

LLFLOW: dict[str, Any] = {
    "nf": 8,
    "nb": 2,
    "growth": 4,
    "taps": [1],
    "steps": [1, 1, 1],
    "plain_steps": 1,
    "hidden": 8,
}
VQGAN: dict[str, Any] = {
    "width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention": [1],
    "z_channels": 3,
    "norm_groups": 2,
}
FLOW: dict[str, Any] = {"channels": 3, "condition_channels": 6, "hidden": 8, "groups": 2, "plain": 1, "coupled": 2}
LLDIFFUSION: dict[str, Any] = {
    "encoder_ch": 1,
    "features": [32],
    "dddm": {
        "in_channels": 9,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_levels": [],
        "time": True,
    },
    "dgnet": {"in_channels": 3, "ch": 32, "ch_mult": [1, 1, 1, 1, 1, 1], "num_res_blocks": 1, "attn_levels": []},
}
TONENET: dict[str, Any] = {"stages": [8, 8, 8, 8], "hidden": 8, "widths": [8, 8, 8]}


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(count: int = 2, height: int = 64, width: int = 64, *, seed: int = 0) -> Batch:
    """Smooth coloured pictures and their dark, noisy copies, in whole 8-bit codes."""
    draw = numbers(seed)
    target = F.interpolate(torch.rand(count, 3, 6, 6, generator=draw), (height, width), mode="bicubic").clamp(0, 1)
    low = (0.15 * target + 0.01 * torch.randn(target.shape, generator=draw)).clamp(0, 1)
    return {"low": (low * 255).round() / 255, "target": (target * 255).round() / 255}


def gradients(task: Task, batch: Batch, *, step: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """Gradients of every trained parameter, after checking that they are finite and none of the others has any."""
    task.module.train()
    task.module.zero_grad()
    task.losses(batch, step=step, generator=numbers(seed))["loss"].backward()
    found = {}
    for name, parameter in task.module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name}: is trained, but gets no gradient"
            assert torch.isfinite(parameter.grad).all(), name
            found[name] = parameter.grad
        else:
            assert parameter.grad is None, f"{name}: is frozen, but gets a gradient"
    return found


def descend(task: Task, batch: Batch, *, steps: int, rate: float = 1e-3) -> list[float]:
    """Losses of a few steps of Adam."""
    task.module.train()
    optimizer = torch.optim.Adam([p for p in task.module.parameters() if p.requires_grad], rate)
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = task.losses(batch, step=step, generator=numbers(step))["loss"]
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    return seen


def exported(task: Task, path: Path) -> Path:
    """The weights file that a run of this task leaves."""
    tensors, metadata = task.export(task.module.state_dict())
    write_safetensors(path, tensors, metadata=metadata)
    return path


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())
