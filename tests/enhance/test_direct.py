"""Colour conversion against swscale and its own inverse; the direct mode with a model whose answer is known."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.errors import ConfigError
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models.protocol import Condition, ModelCard, Prior
from tests.enhance.test_transfer import planes_of

COLORS = [
    ColorSpec(),
    ColorSpec(matrix="smpte170m", chroma="422"),
    ColorSpec(range="full", chroma="444", bit_depth=10),
    ColorSpec(range="full"),
    ColorSpec(matrix="bt2020nc", bit_depth=12),
    ColorSpec(chroma="411"),
    ColorSpec(chroma="400", bit_depth=16, range="full"),
]


def colourful(color: ColorSpec, width: int = 46, height: int = 37) -> torch.Tensor:
    """A smooth picture well inside the gamut."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    rgb = torch.stack([0.2 + 0.6 * x, 0.3 + 0.4 * y, 0.5 + 0.2 * torch.sin(4 * x + 3 * y)])
    return rgb.mean(0, keepdim=True).expand(3, -1, -1) if color.chroma == "400" else rgb


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("size", [(46, 37), (1, 1), (3, 2)])
def test_there_and_back(color, size):
    rgb = colourful(color, *size)
    planes = planes_from_rgb(rgb, color)
    shift_x, shift_y = color.chroma_shift
    assert planes[0].shape == (size[1], size[0])
    assert planes[0].dtype == color.dtype
    if color.chroma != "400":
        assert planes[1].shape == (-(-size[1] // (1 << shift_y)), -(-size[0] // (1 << shift_x)))
    back = rgb_from_planes(planes, color)
    assert back.shape == rgb.shape
    if min(size) > 16:
        # Subsampling costs what a linear interpolation misses of a smooth picture; rounding about a code.
        allowed = {0: 0.0, 1: 0.03, 2: 0.09}[shift_x] + (0.012 if color.bit_depth == 8 else 0.004)
        assert (back - rgb).abs().max() < allowed
        again = planes_from_rgb(back, color)
        assert np.abs(again[0].astype(int) - planes[0]).max() <= max(1, color.peak // 400)


@pytest.mark.parametrize(
    ("matrix", "code"), [("bt709", 1), ("smpte170m", 5), ("bt2020nc", 9)], ids=["709", "601", "2020"]
)
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_agree_with_swscale(matrix, code, full):
    color = ColorSpec(matrix=matrix, chroma="444", range="full" if full else "limited")
    planes = planes_from_rgb(colourful(color), color)
    picture = av.VideoFrame(46, 37, "yuv444p")
    for target, plane in zip(picture.planes, planes, strict=True):
        view = np.frombuffer(target, np.uint8).reshape(target.height, target.line_size)
        view[:, : target.width] = plane
    rgb = picture.reformat(
        format="gbrp16le", src_colorspace=code, src_color_range=2 if full else 1, dst_color_range=2
    ).to_ndarray()
    want = torch.from_numpy(np.moveaxis(rgb, -1, 0).astype(np.float32) / 65535.0)
    assert (rgb_from_planes(planes, color) - want).abs().max() < 0.006


def test_odd_sizes_and_padded_rows():
    color = ColorSpec()
    planes = planes_of(45, 33, color, pad=7)
    rgb = rgb_from_planes(planes, color)
    assert rgb.shape == (3, 33, 45)
    assert rgb.min() >= 0.0
    assert rgb.max() <= 1.0


class Doubling:
    """Twice as bright, plus what the noise says."""

    card = ModelCard(name="doubling", summary="", revision="1", color="rgb", stochastic=True)

    def __init__(self, temperature: float = 0.0) -> None:
        self.temperature = temperature

    def condition(self, low, *, noise=None, recall=None):
        return Condition(low)

    def prior(self, condition):
        return Prior(torch.zeros_like(condition.low), 0.05)

    def decode(self, latent, condition, *, strength=1.0):
        return torch.lerp(condition.low, (2.0 * condition.low + latent).clamp(0, 1), strength)


def frames(count: int) -> list[Frame]:

    rgb = 0.4 * colourful(ColorSpec())
    return [
        Frame(planes_from_rgb(rgb, ColorSpec()), ColorSpec(), pts=i, time_base=Fraction(1, 25)) for i in range(count)
    ]


def run(items: list[Frame], model: Doubling, **settings) -> list[Frame]:
    enhancer = build_enhancer(model, settings=EnhanceSettings(**settings))
    state = enhancer.new_state()
    return [enhancer([item], [state])[0] for item in items]


def test_every_pixel_goes_through_the_model():
    (result,) = run(frames(1), Doubling())
    got = rgb_from_planes(result.planes, result.color)
    assert (got - 0.8 * colourful(ColorSpec())).abs().mean() < 0.01
    (half,) = run(frames(1), Doubling(), strength=0.5)
    assert (rgb_from_planes(half.planes, half.color) - 0.6 * colourful(ColorSpec())).abs().mean() < 0.01


def test_noise_is_the_same_on_every_frame_and_follows_the_seed():
    first = run(frames(2), Doubling(1.0))
    np.testing.assert_array_equal(first[0].planes[0], first[1].planes[0])
    same = run(frames(1), Doubling(1.0))[0]
    np.testing.assert_array_equal(first[0].planes[0], same.planes[0])
    other = run(frames(1), Doubling(1.0), seed=1)[0]
    assert (other.planes[0] != same.planes[0]).any()


def test_strength_zero_does_not_run_the_model():
    item = frames(1)[0]
    planes = item.planes
    assert run([item], Doubling(), strength=0.0)[0].planes is planes


@pytest.mark.parametrize("color", [ColorSpec(), ColorSpec(matrix="smpte170m", range="full", chroma="444")])
def test_a_model_on_rgb_may_decide_on_a_small_copy(color):
    rgb = 0.4 * colourful(color, 256, 160)
    item = Frame(planes_from_rgb(rgb, color), color, pts=0, time_base=Fraction(1, 25))
    enhancer = build_enhancer(Doubling(), mode="guided", settings=EnhanceSettings(working_size=64))
    (result,) = enhancer([item], [enhancer.new_state()])
    enhancer.close()
    got = rgb_from_planes(result.planes, result.color)
    assert (got - 2.0 * rgb).abs().mean() < 0.015


def test_a_sampling_model_in_guided_mode_does_not_flicker():
    enhancer = build_enhancer(Doubling(1.0), mode="guided", settings=EnhanceSettings(denoise=0.0))
    state = enhancer.new_state()
    first, second = (enhancer([item], [state])[0] for item in frames(2))
    enhancer.close()
    np.testing.assert_array_equal(first.planes[0], second.planes[0])


def test_mode_must_suit_the_model():
    with pytest.raises(ConfigError, match=r"'retinex' decides on small copies: it runs in guided mode only"):
        build_enhancer("retinex", mode="direct")


def test_identity_tells_settings_apart():
    base = build_enhancer(Doubling()).identity
    assert base == build_enhancer(Doubling(), settings=EnhanceSettings(workers=7)).identity
    assert base != build_enhancer(Doubling(), settings=EnhanceSettings(seed=1)).identity
    assert base != build_enhancer("retinex").identity


class Following(Doubling):
    """A model whose latent is the brightness of every place, and whose decoder sees the dark picture besides."""

    def prior(self, condition):
        return Prior(condition.low)

    def decode(self, latent, condition, *, strength=1.0):
        return (latent + condition.low).clamp(0, 1)


def noisy(items: list[Frame]) -> list[Frame]:
    random = np.random.default_rng(0)
    for item in items:
        luma = item.planes[0] + random.normal(0.0, 4.0, item.planes[0].shape)
        item.planes = (luma.round().clip(0, 255).astype(np.uint8), *item.planes[1:])
    return items


def test_models_on_places_follow_the_scene_and_not_the_noise():
    def flicker(stability: float) -> float:
        enhancer = build_enhancer(Following(), settings=EnhanceSettings(stability=stability))
        state = enhancer.new_state()
        lumas = [enhancer([item], [state])[0].planes[0].astype(float) for item in noisy(frames(12))]
        enhancer.close()
        return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(lumas[6:])]))

    assert flicker(0.7) < 0.4 * flicker(0.0)


@pytest.mark.parametrize("mode", ["direct", "guided"])
def test_stability_zero_is_frame_by_frame(mode):
    settings = EnhanceSettings(stability=0.0, denoise=0.0)
    enhancer = build_enhancer(Doubling(1.0), mode=mode, settings=settings)
    state = enhancer.new_state()
    for item in frames(3):
        (streamed,) = enhancer([item], [state])
    alone = build_enhancer(Doubling(1.0), mode=mode, settings=settings)
    (fresh,) = alone(frames(1), [alone.new_state()])
    enhancer.close()
    alone.close()
    np.testing.assert_array_equal(streamed.planes[0], fresh.planes[0])


def test_a_saved_state_goes_on_with_the_same_latent():
    settings = EnhanceSettings(stability=0.7)
    enhancer = build_enhancer(Doubling(1.0), settings=settings)
    state = enhancer.new_state()
    items = frames(4)
    for item in items[:2]:
        enhancer([item], [state])
    resumed = enhancer.restore(enhancer.snapshot(state))
    first, second = frames(1)[0], frames(1)[0]
    first.pts = second.pts = 2
    (whole,), (again,) = enhancer([first], [state]), enhancer([second], [resumed])
    np.testing.assert_array_equal(whole.planes[0], again.planes[0])
