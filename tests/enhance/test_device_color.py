"""Colour conversion of planes that are tensors, in torch and in interpreted Triton."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from streamlight.enhance.color import codes_from_rgb, planes_from_rgb, rgb_from_planes
from streamlight.media.frame import ColorSpec
from streamlight.models.nn.kernels import Kernels
from tests.card import card
from tests.enhance.interpreter import needs_interpreter, poisoned
from tests.enhance.test_device_transfer import on_device
from tests.enhance.test_transfer import planes_of

__all__ = ["poisoned"]

COLORS = {
    "420": ColorSpec(),
    "420 full": ColorSpec(range="full", matrix="smpte170m"),
    "420, 10 bit": ColorSpec(bit_depth=10, matrix="bt2020nc"),
    "422": ColorSpec(chroma="422"),
    "440": ColorSpec(chroma="440"),
    "444, 16 bit": ColorSpec(chroma="444", bit_depth=16),
    "411": ColorSpec(chroma="411"),
    "410 full": ColorSpec(chroma="410", range="full"),
    "luma": ColorSpec(chroma="400", range="full"),
}
SIZES = [(38, 6), (37, 5), (1, 1)]


def picture(width: int, height: int) -> torch.Tensor:
    """Noise that leaves [0, 1], as a view whose samples do not lie side by side."""
    generator = torch.Generator().manual_seed(width)
    return (1.2 * torch.rand(height, width + 3, 3, generator=generator) - 0.1)[:, :width].permute(2, 0, 1)


@needs_interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", COLORS)
def test_kernels_convert_as_torch_does(name: str) -> None:
    color, triton = COLORS[name], Kernels("triton")
    differing = total = 0
    for width, height in SIZES:
        planes = planes_of(width, height, color)
        got = rgb_from_planes(on_device(planes), color, kernels=triton)
        torch.testing.assert_close(got, rgb_from_planes(planes, color), atol=5e-7, rtol=0)
        rgb = picture(width, height)
        luma, *chroma = codes_from_rgb(rgb, color, kernels=triton)
        want_luma, *want_chroma = planes_from_rgb(rgb, color)
        assert np.array_equal(luma.numpy(), want_luma)  # the same operations in the same order
        for ours, theirs in zip(chroma, want_chroma, strict=True):
            assert ours.numpy().dtype == theirs.dtype
            difference = np.abs(ours.numpy().astype(int) - theirs.astype(int))
            assert difference.max() <= 1
            differing += int((difference > 0).sum())
            total += difference.size
    assert differing <= 1e-3 * total


@needs_interpreter
@pytest.mark.usefixtures("poisoned")
def test_kernels_cover_pictures_of_several_tiles() -> None:
    color, triton = ColorSpec(), Kernels("triton")
    planes = planes_of(530, 3, color)
    want = rgb_from_planes(planes, color)
    torch.testing.assert_close(rgb_from_planes(on_device(planes), color, kernels=triton), want, atol=5e-7, rtol=0)
    for ours, theirs in zip(codes_from_rgb(want, color, kernels=triton), planes, strict=True):
        assert ours.shape == theirs.shape
    for ours, theirs in zip(codes_from_rgb(want, color, kernels=triton), codes_from_rgb(want, color), strict=True):
        assert (ours.int() - theirs.int()).abs().max() <= 1


@needs_interpreter
def test_flat_colours_give_the_same_codes() -> None:
    """Where all of a plane lies at one value, a difference would be seen; halves among them go to the even code."""
    for color, level in itertools.product((ColorSpec(), ColorSpec(range="full")), (0.0, 0.5, 1.0, 100 / 255)):
        rgb = torch.tensor([level, 0.25, 1.0 - level]).view(3, 1, 1).expand(3, 4, 6)
        for ours, theirs in zip(
            codes_from_rgb(rgb, color, kernels=Kernels("triton")), planes_from_rgb(rgb, color), strict=True
        ):
            assert np.array_equal(ours.numpy(), theirs)


@needs_interpreter
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernels_give_and_take_short_floats(dtype: torch.dtype) -> None:
    color, triton = ColorSpec(), Kernels("triton")
    planes = planes_of(22, 6, color)
    short = rgb_from_planes(on_device(planes), color, dtype=dtype, kernels=triton)
    assert short.dtype == dtype
    torch.testing.assert_close(
        short, rgb_from_planes(planes, color, dtype=dtype), atol=0, rtol=2 * torch.finfo(dtype).eps
    )
    for ours, theirs in zip(codes_from_rgb(short, color, kernels=triton), codes_from_rgb(short, color), strict=True):
        assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("name", COLORS)
def test_tensors_convert_as_arrays_do(name: str) -> None:
    color = COLORS[name]
    planes = planes_of(37, 11, color)
    want = rgb_from_planes(planes, color)
    assert torch.equal(rgb_from_planes(on_device(planes), color), want)
    codes = codes_from_rgb(want, color)
    for tensor, array in zip(codes, planes_from_rgb(want, color), strict=True):
        assert array.dtype == color.dtype
        assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("name", ["420", "420, 10 bit", "411", "luma"])
def test_nothing_waits_for_a_device(name: str) -> None:
    color = COLORS[name]
    planes = tuple(torch.from_numpy(plane) for plane in planes_of(38, 12, color))
    rgb = rgb_from_planes(planes, color)
    with card() as sim:
        there = rgb_from_planes(tuple(sim.put(plane) for plane in planes), color, device="cpu")
        assert there.device == sim.device
        assert torch.equal(sim.get(there), rgb)
        for ours, theirs in zip(codes_from_rgb(there, color), codes_from_rgb(rgb, color), strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(sim.get(ours), theirs)
