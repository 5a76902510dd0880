"""Compiled kernels on a card at 1080p, against the CPU; what the interpreter's tests say of small pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pytest
import torch

from streamlight.engine import RowPool
from streamlight.enhance import color as conversion
from streamlight.enhance.calm import calm_near_black
from streamlight.enhance.color import codes_from_rgb, planes_from_rgb, rgb_from_planes
from streamlight.enhance.transfer import FrameGeometry, GuidedTransfer
from streamlight.enhance.transfer.device import DeviceTransfer
from streamlight.media.frame import ColorSpec
from streamlight.models.llflow.preprocess import equalization_table
from streamlight.models.nn.histogram import KERNELS as COUNTING
from streamlight.models.nn.kernels import given_up
from tests.enhance.test_transfer import planes_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

T = TypeVar("T")
Tensors = tuple[torch.Tensor, ...]
WIDTH, HEIGHT = 1920, 1080
COLORS = {
    "420": ColorSpec(),
    "420, 10 bit": ColorSpec(bit_depth=10, matrix="bt2020nc"),
    "444 full": ColorSpec(chroma="444", range="full"),
    "luma": ColorSpec(chroma="400"),
}


@pytest.fixture(autouse=True)
def waits_allowed_again() -> Iterator[None]:
    """Also after a test in which :func:`twice` met a wait."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def upload(planes: tuple[np.ndarray, ...]) -> Tensors:
    """The planes on the card, chroma as views of one plane of pairs."""
    luma = torch.from_numpy(planes[0]).cuda()
    if len(planes) == 1:
        return (luma,)
    pairs = torch.from_numpy(np.stack(planes[1:], axis=2)).cuda()
    return luma, pairs[..., 0], pairs[..., 1]


def twice(work: Callable[[], T]) -> T:
    """Run ``work`` once to compile its kernels, and again with every wait an error."""
    work()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    result = work()
    torch.cuda.set_sync_debug_mode("default")
    return result


def close(ours: Sequence[torch.Tensor], theirs: Sequence[np.ndarray], *, share: float) -> None:
    """Codes at most one apart, and apart in no more than a ``share`` of the samples."""
    for tensor, array in zip(ours, theirs, strict=True):
        difference = np.abs(tensor.cpu().numpy().astype(int) - array.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() <= share


@pytest.mark.parametrize("name", COLORS)
def test_guided_transfer(name: str) -> None:
    color = COLORS[name]
    geometry = FrameGeometry.of(WIDTH, HEIGHT, color)
    host, before = planes_of(WIDTH, HEIGHT, color), planes_of(WIDTH, HEIGHT, color, seed=2)
    planes, first = upload(host), upload(before)
    device = DeviceTransfer(geometry)
    eps, threshold = (torch.tensor(2e-4, device="cuda"), 5e-4), torch.tensor(3.0, device="cuda")

    def work() -> tuple[torch.Tensor, Tensors, Tensors, list[torch.Tensor]]:
        small = device.shrink(planes)
        maps = device.fit(small, small * 1.7, eps=eps)
        memory = device.remember(first)
        gate = torch.full_like(small[0], 0.4)
        out = device.filter_apply(planes, maps, memory=memory, gate=gate, threshold=threshold)
        return small, device.apply(planes, maps), out, memory

    small, plain, filtered, memory = twice(work)
    assert given_up() == []
    with RowPool(2) as rows:
        cpu = GuidedTransfer(geometry, rows)
        dark = cpu.shrink(host)
        maps = cpu.fit(dark, (dark * 1.7).contiguous(), eps=(2e-4, 5e-4))
        kept = cpu.remember(before)
        want = cpu.filter_apply(host, maps, memory=kept, gate=torch.full_like(dark[0], 0.4), threshold=3.0)
        torch.testing.assert_close(small.cpu(), dark, atol=5e-7, rtol=0)
        close(plain, cpu.apply(host, maps), share=0.003)
    close(filtered, want, share=0.003)
    close(memory, kept, share=0.003)


@pytest.mark.parametrize("name", COLORS)
def test_colour(name: str) -> None:
    color = COLORS[name]
    host = planes_of(WIDTH, HEIGHT, color)
    planes = upload(host)
    rgb = rgb_from_planes(host, color)
    there = rgb.cuda()
    torch.testing.assert_close(twice(lambda: rgb_from_planes(planes, color)).cpu(), rgb, atol=5e-7, rtol=0)
    close(twice(lambda: codes_from_rgb(there, color)), planes_from_rgb(rgb, color), share=1e-3)
    assert conversion.KERNELS.fallback is None


def test_histogram_and_calm() -> None:
    codes = torch.from_numpy(
        np.random.default_rng(0).geometric(0.1, (1, 3, HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
    )
    there = codes.cuda()
    assert torch.equal(twice(lambda: equalization_table(there)).cpu(), equalization_table(codes))
    assert COUNTING.fallback is None
    small = torch.rand(3, 270, 480, generator=torch.Generator().manual_seed(0)) * 0.05
    dark = small.cuda()
    torch.testing.assert_close(twice(lambda: calm_near_black(dark)).cpu(), calm_near_black(small), atol=1e-5, rtol=0)


def test_the_transfer_can_be_captured() -> None:
    """Nothing in it needs the host: a CUDA graph gives what the calls gave."""
    geometry = FrameGeometry.of(WIDTH, HEIGHT, ColorSpec())
    planes = upload(planes_of(WIDTH, HEIGHT, ColorSpec()))
    device = DeviceTransfer(geometry)

    def work() -> Tensors:
        small = device.shrink(planes)
        return device.apply(planes, device.fit(small, small * 1.7, eps=(2e-4, 5e-4)))

    want = twice(work)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = work()
    graph.replay()
    torch.cuda.synchronize()
    for ours, theirs in zip(got, want, strict=True):
        assert torch.equal(ours.cpu(), theirs.cpu())
