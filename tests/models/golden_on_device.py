"""The golden sets of the models on a device, simulated or real: what the host must match, it must match too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from streamlight.models import load
from streamlight.models.glare import Glare
from streamlight.models.lldiffusion import LLDiffusion
from streamlight.models.lldiffusion.preprocess import quantize
from streamlight.models.llflow import LLFlow
from tests.models import llflow_golden, test_glare_golden, test_lldiffusion_golden

Move = Callable[[Tensor], Tensor]


def llflow(device: torch.device, put: Move, get: Move) -> None:
    """Encoder and inverse flow of the fast path."""
    model = load(llflow_golden.WEIGHTS).to(device)  # type: ignore[attr-defined]
    assert isinstance(model, LLFlow)
    golden = llflow_golden.tensors()
    encoding = model.prepared.encode(put(golden["lq"]))
    llflow_golden.close("enc.color_map", get(encoding.color_map))
    for level, features in enumerate(encoding.conditions, start=1):
        llflow_golden.close(f"cond.level{level}", get(features))
    for which in ("given", "mean"):
        found = model.prepared.decode(put(golden[f"reverse_{which}.z"]), encoding)
        llflow_golden.close(f"reverse_{which}.x", get(found))


def glare(device: torch.device, put: Move, get: Move) -> None:
    """Conditional encoder, flow, choice of codes, and the picture."""
    golden = test_glare_golden.Golden()
    model = load(test_glare_golden.FOLDER / "net_g.safetensors", padding="benchmark").to(device)  # type: ignore[attr-defined]
    assert isinstance(model, Glare)
    assert model.vqgan is not None
    said = model.encode(put(test_glare_golden.picture(golden["pre.padded_rgb_u8"])))
    golden.check("cond.cond_feat", get(said.features))
    golden.check("cond.color_map", get(said.mean))
    latent = model.latent(said.mean, said)
    golden.check("flow_inv.z_nl", get(latent))
    golden.check("vq_ll.indices", get(model.vqgan.quantize.nearest(latent)).flatten())
    condition = model.condition(put(test_glare_golden.picture(golden["io.low_rgb_u8"])))
    bright = model.decode(model.prior(condition).mean, condition)
    golden.check("out.cropped_clamped_hwc", test_glare_golden.hwc(get(bright)))


def lldiffusion(name: str, device: torch.device, put: Move, get: Move) -> None:
    """The trajectory and the picture of one of the networks."""
    golden = test_lldiffusion_golden.tensors(name)
    file = test_lldiffusion_golden.GOLDEN / f"{name}_weights.safetensors"
    model = load(file, steps=4).to(device)  # type: ignore[attr-defined]
    assert isinstance(model, LLDiffusion)
    condition = model.condition(put(test_lldiffusion_golden.picture(name)))
    *_, last = model.trajectory(put(golden["x_T"].float()), condition)
    test_lldiffusion_golden.assert_close(get(last), golden["traj_x_4"], tolerance=5e-4)
    height, width = condition.low.shape[-2:]
    bright = ((get(last)[0, :, :height, :width] + 1.0) / 2.0).clamp(0.0, 1.0)
    difference = (quantize(bright).int() - golden["final_u8"].int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= 0.01


GOLDENS = {"llflow": llflow, "glare": glare} | {
    f"lldiffusion {name}": partial(lldiffusion, name) for name in test_lldiffusion_golden.NAMES
}
