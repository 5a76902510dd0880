"""Layers that models share, against the plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.models.nn import attention, norm
from streamlight.models.nn.attention import SpatialAttention, attend, matmul_t
from streamlight.models.nn.deform import ModulatedDeformConv2d, deform_conv2d
from streamlight.models.nn.norm import GroupNorm
from streamlight.models.nn.padding import mirror
from streamlight.models.nn.resblock import Downsample, ResBlock, Upsample
from streamlight.models.nn.vq import VectorQuantizer


def explicit(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT * query.shape[-1] ** -0.5, -1) @ value


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 5), (64, 33), (50, 8), (9, 1000)])
def test_attention_in_blocks_is_attention(monkeypatch: pytest.MonkeyPatch, queries: int, keys: int) -> None:
    monkeypatch.setattr(attention, "_QUERIES", queries)
    monkeypatch.setattr(attention, "_KEYS", keys)
    query, key, value = torch.randn(2, 50, 12), torch.randn(2, 33, 12), torch.randn(2, 33, 12)
    with torch.no_grad():
        torch.testing.assert_close(attend(query, key, value), explicit(query, key, value), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_attention_with_scores_of_any_size(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Rising, falling and equal scores from block to block; none overflows."""
    monkeypatch.setattr(attention, "_KEYS", 4)
    query, value = torch.ones(1, 3, 4), torch.randn(1, 21, 4)
    for key in (torch.arange(21.0), -torch.arange(21.0), torch.zeros(21)):
        keys = (scale * key)[None, :, None].expand(1, 21, 4)
        with torch.no_grad():
            torch.testing.assert_close(attend(query, keys, value), explicit(query, keys, value), rtol=1e-5, atol=1e-6)


def test_attention_has_the_gradient_of_the_formula() -> None:
    leaves = [torch.randn(1, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(attend, leaves)
    torch.testing.assert_close(attend(*leaves), explicit(*leaves))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_attention_in_other_precisions(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(1, 40, 8) for _ in range(3))
    with torch.no_grad():
        found = attend(query.to(dtype), key.to(dtype), value.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), explicit(query, key, value), rtol=0, atol=0.05)


@pytest.mark.parametrize("contiguous", [True, False])
def test_product_with_the_transpose(contiguous: bool) -> None:
    a, b = (
        (torch.randn(37, 24), torch.randn(41, 24)) if contiguous else (torch.randn(24, 37).t(), torch.randn(24, 41).t())
    )
    torch.testing.assert_close(matmul_t(a, b), a @ b.t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blocks_give_the_same_with_and_without_gradients(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 10).contiguous(memory_format=layout)
    kept = x.clone()
    layers = [
        ResBlock(8, 12, groups=4),
        ResBlock(8, 8, groups=4),
        SpatialAttention(8, groups=4),
        Downsample(8),
        Upsample(8),
    ]
    for layer in layers:
        with torch.no_grad():
            fast = layer(x)
        torch.testing.assert_close(fast, layer(x).detach(), rtol=1e-5, atol=2e-6)
        assert torch.equal(x, kept), f"{type(layer).__name__} overwrote its input"


def test_upsample_is_nearest_then_convolution() -> None:
    layer = Upsample(3)
    x = torch.randn(1, 3, 4, 1)
    with torch.no_grad():
        plain = layer.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-6)


def test_downsample_pads_below_and_right_only() -> None:
    layer = Downsample(1)
    x = torch.zeros(1, 1, 5, 4)
    x[0, 0, 0, 0] = 1.0
    with torch.no_grad():
        found = layer(x)
        assert found.shape == (1, 1, 2, 2)
        torch.testing.assert_close(found[0, 0, 0, 0], layer.conv.weight[0, 0, 0, 0] + layer.conv.bias[0])


def test_quantiser_blocks_and_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = VectorQuantizer(20, 4)
    z = torch.randn(2, 4, 5, 7) * 0.05
    whole = quantizer.nearest(z)
    monkeypatch.setattr("streamlight.models.nn.vq._DISTANCES", 20 * 3)
    assert torch.equal(quantizer.nearest(z), whole)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 4).double()
    expected = torch.cdist(flat, quantizer.embedding.weight.detach().double()).argmin(1)
    assert torch.equal(whole.flatten(), expected)
    codes = quantizer.embedding.weight.detach()
    assert torch.equal(quantizer.lookup(codes.t().reshape(1, 4, 4, 5)).detach(), codes.t().reshape(1, 4, 4, 5))


def test_quantiser_gradients() -> None:
    quantizer = VectorQuantizer(20, 3)
    z = torch.randn(1, 3, 4, 4, requires_grad=True)
    found = quantizer(z)
    (through,) = torch.autograd.grad(found.values.sum(), z, retain_graph=True)
    assert torch.equal(through, torch.ones_like(z))
    pull, codebook = torch.autograd.grad(found.loss, (z, quantizer.embedding.weight))
    torch.testing.assert_close(pull, 0.25 * 2.0 * (z - found.values).detach() / z.numel())
    assert float(codebook.abs().sum()) > 0


def test_undisplaced_deformable_convolution_is_a_convolution() -> None:
    x, weight, bias = torch.randn(2, 8, 5, 6), torch.randn(4, 8, 3, 3), torch.randn(4)
    found = deform_conv2d(x, torch.zeros(2, 72, 5, 6), torch.ones(2, 36, 5, 6), weight, bias)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1), rtol=1e-5, atol=1e-5)


def test_whole_displacement_reads_the_pixel_there_and_zero_outside() -> None:
    x = torch.arange(1.0, 21.0).view(1, 1, 4, 5)
    offset = torch.zeros(1, 18, 4, 5)
    offset[:, 8], offset[:, 9] = 1.0, -2.0  # centre tap: one row down, two columns left
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    found = deform_conv2d(x, offset, torch.ones(1, 9, 4, 5), weight)
    expected = torch.zeros(4, 5)
    expected[:3, 2:] = x[0, 0, 1:, :3]
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1)])
def test_deformable_convolution_of_thin_pictures(shape: tuple[int, int]) -> None:
    layer = ModulatedDeformConv2d(4, 3)
    x, guide = torch.randn(1, 4, *shape), torch.randn(1, 4, *shape)
    with torch.no_grad():
        expected = F.conv2d(x, layer.weight * 0.5, layer.bias, padding=1)  # untrained: no offsets, masks of a half
        torch.testing.assert_close(layer(x, guide), expected, rtol=1e-5, atol=1e-5)


def test_deformable_convolution_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    x, offset, mask = torch.randn(1, 8, 9, 7), torch.randn(1, 72, 9, 7) * 3.0, torch.rand(1, 36, 9, 7)
    weight = torch.randn(6, 8, 3, 3)
    with torch.no_grad():
        whole = deform_conv2d(x, offset, mask, weight)
        monkeypatch.setattr("streamlight.models.nn.deform._SAMPLES", 8 * 9 * 7 * 2)
        torch.testing.assert_close(deform_conv2d(x, offset, mask, weight), whole, rtol=1e-5, atol=1e-5)


def test_deformable_convolution_gradients() -> None:
    torch.manual_seed(3)
    shapes = ((1, 4, 3, 4), (1, 36, 3, 4), (1, 18, 3, 4), (2, 4, 3, 3))
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(deform_conv2d, leaves, atol=1e-4)


@pytest.mark.parametrize(("repeat_edge", "mode"), [(False, "reflect"), (True, "symmetric")])
@pytest.mark.parametrize("shape", [(4, 6), (1, 5), (2, 1), (3, 3)])
def test_mirror_is_numpy_padding(repeat_edge: bool, mode: str, shape: tuple[int, int]) -> None:
    x = torch.randn(2, *shape)
    found = mirror(x, top=5, bottom=3, left=0, right=9, repeat_edge=repeat_edge)
    expected = np.pad(x.numpy(), ((0, 0), (5, 3), (0, 9)), mode=mode)  # type: ignore[call-overload]
    assert np.array_equal(found.numpy(), expected)
    assert mirror(x) is x


@pytest.mark.parametrize("size", [(64, 96), (33, 100), (3, 1000), (200, 2), (300, 310)])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_group_norm_is_exact_in_any_layout(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], groups: int) -> None:
    """Channels far from zero, which torch's channels-last kernel gets wrong in the third digit."""
    monkeypatch.setattr(norm, "_BAND_BYTES", 50_000)
    torch.manual_seed(0)
    layer = GroupNorm(groups, 8, eps=1e-6)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
        x = torch.randn(2, 8, *size) + 20 * torch.randn(2, 8, 1, 1)
        x[1, 3] = 5.0  # a constant channel
        want = F.group_norm(x.double(), groups, layer.weight.double(), layer.bias.double(), 1e-6)
        for layout in (torch.contiguous_format, torch.channels_last):
            got = layer(x.contiguous(memory_format=layout))
            assert got.is_contiguous(memory_format=layout)
            torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-4)


class TestHeldCodes:
    """Hysteresis in the choice of codes."""

    def quantizer(self) -> VectorQuantizer:
        quantizer = VectorQuantizer(3, 1)
        quantizer.embedding.weight.data = torch.tensor([[0.0], [1.0], [5.0]])
        return quantizer

    def held(self, value: float, before: int, margin: float) -> int:
        quantizer, latent = self.quantizer(), torch.full((1, 1, 1, 1), value)
        return int(quantizer.hold(latent, quantizer.nearest(latent), torch.tensor([[[before]]]), margin=margin))

    def test_a_code_holds_until_another_is_nearer_by_the_margin(self) -> None:
        assert self.held(0.52, 0, 0.3) == 0
        assert self.held(0.52, 1, 0.3) == 1
        assert self.held(0.60, 0, 0.3) == 1
        assert self.held(4.9, 0, 0.3) == 2
        assert self.held(0.52, 0, 0.0) == 1

    def test_held_codes_do_not_flicker_in_noise(self) -> None:
        generator = torch.Generator().manual_seed(0)
        quantizer = self.quantizer()
        changes = {}
        for margin in (0.0, 0.4):
            codes, count = None, 0
            for _ in range(20):
                latent = 0.5 + 0.02 * torch.randn(1, 1, 8, 8, generator=generator)
                new = quantizer.nearest(latent)
                if codes is not None:
                    new = quantizer.hold(latent, new, codes, margin=torch.full((1, 8, 8), margin))
                    count += int((new != codes).sum())
                codes = new
            changes[margin] = count
        assert changes[0.0] > 300
        assert changes[0.4] < 5
