"""The guided transfer on a device, in torch and in interpreted Triton, against the CPU kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamlight.engine import RowPool
from streamlight.enhance.transfer import FrameGeometry, GuidedTransfer, reference
from streamlight.enhance.transfer.device import DeviceMaps, DeviceTransfer
from streamlight.media.frame import ColorSpec
from streamlight.models.nn.kernels import Kernels, given_up
from tests.card import card
from tests.enhance.interpreter import needs_interpreter, poisoned
from tests.enhance.test_transfer import planes_of

__all__ = ["poisoned"]

FORMATS = {
    "420": (70, 26, ColorSpec(chroma="420"), 18),  # factor 4
    "420 odd, 10 bit": (39, 23, ColorSpec(chroma="420", bit_depth=10), 10),
    "several pieces": (270, 9, ColorSpec(chroma="420"), 68),
    "422 full": (29, 14, ColorSpec(chroma="422", range="full"), 15),  # factor 2, odd width
    "444, 12 bit": (40, 17, ColorSpec(chroma="444", bit_depth=12, range="full"), 14),  # factor 3
    "luma, 16 bit": (33, 21, ColorSpec(chroma="400", bit_depth=16, range="full"), 33),  # factor 1
    "one sample": (1, 1, ColorSpec(chroma="420"), 480),
    "411": (3, 24, ColorSpec(chroma="411"), 3),  # factors 8 and 2
}
EPS = (2e-4, 5e-4)


def on_device(planes: tuple[np.ndarray, ...], *, interleaved: bool = True) -> tuple[Tensor, ...]:
    """The planes as tensors with padded rows, chroma as views of one plane of pairs, as NV12 has it."""
    padded = [np.pad(plane, ((0, 0), (0, 5)), constant_values=plane.dtype.type(77)) for plane in planes]
    luma = torch.from_numpy(padded[0])[:, : planes[0].shape[1]]
    if len(planes) == 1 or not interleaved:
        return (luma, *(torch.from_numpy(plane)[:, :-5] for plane in padded[1:]))
    pairs = torch.from_numpy(np.stack(padded[1:], axis=2))[:, : planes[1].shape[1]]
    return luma, pairs[..., 0], pairs[..., 1]


def far(
    ours: tuple[Tensor, ...] | list[Tensor], theirs: tuple[np.ndarray, ...] | list[np.ndarray]
) -> tuple[int, float]:
    """The largest difference, and the share of samples that differ at all."""
    differences = [np.abs(a.numpy().astype(int) - b.astype(int)) for a, b in zip(ours, theirs, strict=True)]
    assert all(a.numpy().dtype == b.dtype for a, b in zip(ours, theirs, strict=True))
    return max(int(d.max()) for d in differences), max(float((d > 0).mean()) for d in differences)


@pytest.fixture
def rows():
    with RowPool(1) as pool:
        yield pool


@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_interpreter)])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.usefixtures("poisoned")
def test_everything_is_what_the_cpu_kernels_do(name: str, backend: str, rows: RowPool) -> None:
    width, height, color, long_side = FORMATS[name]
    geometry = FrameGeometry.of(width, height, color, long_side=long_side)
    cpu, device = GuidedTransfer(geometry, rows), DeviceTransfer(geometry, kernels=Kernels(backend))
    host, before = planes_of(width, height, color), planes_of(width, height, color, seed=2)
    planes = on_device(host)
    assert planes[0].stride(0) > width

    dark = cpu.shrink(host)
    small = device.shrink(planes)
    assert small.shape == dark.shape
    torch.testing.assert_close(small, dark, atol=5e-7, rtol=0)

    bright = dark * 1.7 + 0.05 * torch.sin(20 * dark)
    maps = cpu.fit(dark, bright.contiguous(), eps=EPS)
    ours = device.fit(dark, bright, eps=(torch.tensor(EPS[0], dtype=torch.float64), EPS[1]))
    for i, plane in enumerate(geometry.planes):
        # Single precision about zero loses more than about the middle of a window; the gain is a quotient.
        torch.testing.assert_close(ours.gain[i].numpy(), maps.gain[i][:-1, :-1], atol=1e-3, rtol=0)
        torch.testing.assert_close(ours.bias[i].numpy(), maps.bias[i][:-1, :-1], atol=1e-3 * plane.peak, rtol=0)

    # From here on with the same maps, so that only what is under test can differ.
    same = DeviceMaps(*(torch.from_numpy(np.stack(m)[:, :-1, :-1].copy()) for m in (maps.gain, maps.bias)))
    most, share = far(device.apply(planes, same), cpu.apply(host, maps))
    assert most <= 1
    assert share < 0.006  # a value of 16 bits lies next to a half more often

    gate = torch.linspace(0.1, 0.9, dark[0].numel()).reshape(dark[0].shape)
    kept = cpu.remember(before)
    guarded = [torch.full((plane.shape[0] + 2, plane.shape[1]), 4321, dtype=torch.uint16) for plane in before]
    memory = [whole[1:-1] for whole in guarded]
    for ours_kept, first in zip(memory, device.remember(on_device(before)), strict=True):
        ours_kept.copy_(first)
    assert far(memory, kept) == (0, 0.0)
    want = cpu.filter_apply(host, maps, memory=kept, gate=gate, threshold=3.0)
    got = device.filter_apply(planes, same, memory=memory, gate=gate, threshold=torch.tensor(3.0))
    most, share = far(got, want)
    assert most <= 1
    assert share < 0.006
    most, share = far(memory, kept)
    assert most <= 1
    assert share < 0.006
    assert all((whole[[0, -1]].int() == 4321).all() for whole in guarded)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(planes, host, strict=True))
    assert given_up() == []


@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=needs_interpreter)])
def test_fit_is_right_where_it_is_bright_and_nearly_flat(backend: str) -> None:
    """There single precision is short of digits; double precision says what is right."""
    geometry = FrameGeometry.of(40, 24, ColorSpec(chroma="400"), long_side=20)
    noise = torch.rand(3, geometry.height, geometry.width, generator=torch.Generator().manual_seed(0))
    dark = 0.9 + 0.01 * noise
    maps = DeviceTransfer(geometry, kernels=Kernels(backend)).fit(dark, dark * 1.5, eps=(1e-5, 1e-5))
    gain, _ = reference.fit(dark[0].double(), dark[0].double() * 1.5, radius=1, eps=1e-5)
    assert gain.std() > 0.05
    torch.testing.assert_close(maps.gain[0].double(), gain, atol={"torch": 0.03, "triton": 1e-3}[backend], rtol=0)


@pytest.mark.parametrize("name", ["420", "422 full", "luma, 16 bit"])
def test_nothing_waits_for_a_device(name: str) -> None:
    width, height, color, long_side = FORMATS[name]
    geometry = FrameGeometry.of(width, height, color, long_side=long_side)
    host = tuple(torch.from_numpy(plane) for plane in planes_of(width, height, color))
    results = []
    with card() as sim:
        for planes in (tuple(sim.put(plane) for plane in host), host):
            transfer = DeviceTransfer(geometry)
            small = transfer.shrink(planes)
            maps = transfer.fit(small, small * 1.5, eps=(small.mean() * 1e-3, 1e-4))
            memory = transfer.remember(planes)
            gate = torch.full_like(small[0], 0.4)
            out = transfer.filter_apply(planes, maps, memory=memory, gate=gate, threshold=small.mean() + 3.0)
            results.append([sim.get(x) for x in (small, maps.gain, *memory, *out, *transfer.apply(planes, maps))])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


class Elsewhere:
    """Stands for a tensor of a CUDA device, of which only the place is looked at."""

    device = torch.device("cuda:0")
    is_cuda = False


def broken(error: Exception):
    def compiled() -> str:
        raise error

    return compiled


def test_torch_takes_over_where_triton_fails_and_says_why() -> None:
    kernels = Kernels()
    calls = []
    assert kernels.run(Elsewhere(), lambda: "compiled", lambda: "plain") == "compiled"
    failing = broken(RuntimeError("Failed to find C compiler.\nmore lines"))
    assert kernels.run(Elsewhere(), failing, lambda: "plain") == "plain"
    assert kernels.fallback == "no Triton kernels: RuntimeError: Failed to find C compiler."
    assert kernels.run(Elsewhere(), lambda: calls.append(1), lambda: "plain") == "plain"
    assert not calls
    assert kernels.run(torch.zeros(1), failing, lambda: "plain") == "plain"


def test_faults_of_the_device_are_not_triton_s() -> None:
    kernels = Kernels()
    with pytest.raises(torch.OutOfMemoryError):
        kernels.run(Elsewhere(), broken(torch.OutOfMemoryError("full")), lambda: "plain")
    with pytest.raises(torch.AcceleratorError):
        kernels.run(Elsewhere(), broken(torch.AcceleratorError("illegal address")), lambda: "plain")
    assert kernels.fallback is None
    with pytest.raises(RuntimeError, match="asked for"):
        Kernels("triton").run(torch.zeros(1), broken(RuntimeError("asked for")), lambda: "plain")


def test_all_kernels_compile_for_hopper(tmp_path: Path) -> None:
    """The interpreter takes what the compiler would not; a card is not needed to compile."""
    pytest.importorskip("triton.backends.nvidia", reason="Triton is not installed, or not for NVIDIA")
    script = Path(__file__).with_name("compile_kernels.py")
    root = script.parents[2]
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    names = {"_shrink", "_fit", "_smooth", "_transfer", "_to_rgb", "_to_codes", "_count"}
    assert names == {line.split()[0] for line in run.stdout.splitlines()}
