"""The CPU kernels against the plain torch reference, over sizes, depths, layouts and row paddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamlight.engine import RowPool
from streamlight.enhance.transfer import FrameGeometry, GuidedTransfer, reference
from streamlight.enhance.transfer.guided import _RADIUS
from streamlight.media.frame import ColorSpec

FORMATS = [
    (64, 48, ColorSpec(chroma="420"), 480),
    (160, 90, ColorSpec(chroma="420"), 64),  # factor 2, odd number of chroma rows
    (333, 211, ColorSpec(chroma="420"), 80),  # odd size, factor 4, cut blocks at the borders
    (129, 65, ColorSpec(chroma="422", bit_depth=10), 64),
    (200, 120, ColorSpec(chroma="444", bit_depth=12, range="full"), 70),  # factor 3
    (97, 101, ColorSpec(chroma="400", range="full"), 97),  # factor 1
    (1, 1, ColorSpec(chroma="420"), 480),
    (3, 500, ColorSpec(chroma="411"), 64),
    (640, 80, ColorSpec(chroma="444", bit_depth=16, range="full"), 80),  # factor 8
]


def planes_of(width: int, height: int, color: ColorSpec, *, seed: int = 0, pad: int = 0) -> tuple[np.ndarray, ...]:
    """Smooth random planes with noise, as views of buffers whose rows are ``pad`` samples longer."""
    rng = np.random.default_rng(seed)
    geometry = FrameGeometry.of(width, height, color)
    planes = []
    for plane in geometry.planes:
        x, y = np.meshgrid(np.arange(plane.width + pad), np.arange(plane.height))
        wave = 0.5 + 0.3 * np.sin(x / 9.0 + seed) * np.cos(y / 7.0) + rng.normal(0, 0.03, x.shape)
        full = np.clip(wave * color.peak, 0, color.peak).astype(color.dtype)
        planes.append(full[:, : plane.width])
    return tuple(planes)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def rows(request: pytest.FixtureRequest):
    with RowPool(request.param) as pool:
        yield pool


@pytest.mark.parametrize("pad", [0, 13])
@pytest.mark.parametrize(("width", "height", "color", "long_side"), FORMATS)
class TestAgainstReference:
    def test_shrink(self, width, height, color, long_side, pad, rows):
        transfer = GuidedTransfer(FrameGeometry.of(width, height, color, long_side=long_side), rows)
        planes = planes_of(width, height, color, pad=pad)
        small = transfer.shrink(planes)
        for plane, shape, got in zip(planes, transfer.geometry.planes, small, strict=False):
            want = reference.shrink(torch.from_numpy(plane.astype(np.int32)), shape)
            assert got.shape == want.shape
            torch.testing.assert_close(got, want, atol=2e-6, rtol=0)
        if color.chroma == "400":
            assert not small[1:].any()

    def test_fit_and_apply(self, width, height, color, long_side, pad, rows):
        transfer = GuidedTransfer(FrameGeometry.of(width, height, color, long_side=long_side), rows)
        planes = planes_of(width, height, color, pad=pad)
        dark = transfer.shrink(planes)
        bright = (dark * 1.7 + 0.05 * torch.sin(20 * dark)).contiguous()
        maps = transfer.fit(dark, bright, eps=(2e-4, 5e-4))
        out = transfer.apply(planes, maps)
        for i, shape in enumerate(transfer.geometry.planes):
            a, b = reference.fit(dark[i].double(), bright[i].double(), radius=_RADIUS[i], eps=(2e-4, 5e-4)[min(i, 1)])
            want = reference.apply(torch.from_numpy(planes[i].astype(np.int32)), a, b, shape)
            assert out[i].dtype == color.dtype
            assert out[i].shape == planes[i].shape
            # Half a code is the rounding; the rest is single precision, which grows with the depth.
            error = np.abs(out[i].astype(np.float64) - want.numpy()).max()
            assert error <= 0.5 + 2e-5 * color.peak

    def test_filter_follows_the_formula(self, width, height, color, long_side, pad, rows):
        transfer = GuidedTransfer(FrameGeometry.of(width, height, color, long_side=long_side), rows)
        first = planes_of(width, height, color, seed=1, pad=pad)
        second = planes_of(width, height, color, seed=2, pad=pad)
        dark = transfer.shrink(second)
        maps = transfer.fit(dark, dark * 1.3, eps=(1e-4, 1e-4))
        memory = transfer.remember(first)
        gate = torch.linspace(0.1, 0.9, dark[0].numel()).reshape(dark[0].shape)
        out = transfer.filter_apply(second, maps, memory=memory, gate=gate, threshold=3.0)
        unit = (color.peak + 1) / 256.0
        for i, shape in enumerate(transfer.geometry.planes):
            old, new = (torch.from_numpy(p[i].astype(np.float64)) for p in (first, second))
            step = new - old
            k = reference.expand(gate.double(), shape) + (step.abs() - 3.0 * unit).clamp_min(0) * 0.5 / (3.0 * unit)
            filtered = old + k.clamp_max(1.0) * step
            scale = 65536 // (color.peak + 1)
            kept = torch.from_numpy(memory[i].astype(np.float64)) / scale
            assert (kept - filtered).abs().max() <= 0.51 / scale + 1e-4 * unit
            gain, bias = (
                reference.expand(torch.from_numpy(m[i][:-1, :-1]).double(), shape) for m in (maps.gain, maps.bias)
            )
            want = (gain * filtered + bias).clamp(0, color.peak)
            assert np.abs(out[i].astype(np.float64) - want.numpy()).max() <= 0.5 + 2e-4 * unit + 1e-5 * color.peak


def test_bands_do_not_change_the_result():
    color = ColorSpec()
    planes = planes_of(320, 200, color)
    results = []
    for workers in (1, 2, 5):
        with RowPool(workers) as pool:
            transfer = GuidedTransfer(FrameGeometry.of(320, 200, color, long_side=80), pool)
            dark = transfer.shrink(planes)
            maps = transfer.fit(dark, dark * 2, eps=(1e-4, 1e-4))
            results.append(transfer.apply(planes, maps))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_identity_without_noise_is_exact():
    """Fitting a picture to itself gives gain 1 wherever its variation exceeds eps."""
    color = ColorSpec(range="full")
    plane = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1))
    planes = (plane, plane[::2, ::2].copy(), plane[::2, ::2].copy())
    with RowPool(1) as pool:
        transfer = GuidedTransfer(FrameGeometry.of(128, 64, color), pool)
        dark = transfer.shrink(planes)
        out = transfer.apply(planes, transfer.fit(dark, dark, eps=(1e-9, 1e-9)))
    for a, b in zip(planes, out, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_flat_noise_is_removed_and_edges_stay():
    """A is a Wiener gain: noise below eps vanishes in flat areas, an edge keeps its contrast."""
    rng = np.random.default_rng(3)
    color = ColorSpec(range="full", chroma="400")
    clean = np.full((256, 256), 20.0)
    clean[:, 128:] = 60.0
    noisy = np.clip(np.round(clean + rng.normal(0, 2.0, clean.shape)), 0, 255).astype(np.uint8)
    with RowPool(1) as pool:
        transfer = GuidedTransfer(FrameGeometry.of(256, 256, color, long_side=64), pool)
        dark = transfer.shrink((noisy,))
        (out,) = transfer.apply((noisy,), transfer.fit(dark, dark * 3.0, eps=((2.0 / 255) ** 2,) * 2))
    flat = out[32:224, 32:96].astype(np.float64)
    assert flat.mean() == pytest.approx(60.0, abs=1.0)
    assert flat.std() < 0.35 * 3.0 * 2.0  # a pure gain of 3 would give 6 codes
    assert out[:, 132:].mean() - out[:, :124].mean() == pytest.approx(120.0, abs=3.0)


def test_geometry_covers_odd_chroma():
    geometry = FrameGeometry.of(321, 181, ColorSpec(chroma="420"), long_side=160)
    assert geometry.factor == 2
    assert (geometry.width, geometry.height) == (161, 91)
    assert [(p.width, p.height) for p in geometry.planes] == [(321, 181), (161, 91), (161, 91)]
    first, weight = geometry.planes[0].columns
    assert first[0] == 0
    assert weight[0] == 0.0
    assert first.max() <= 160
