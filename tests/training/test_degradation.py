"""What the synthesis of darkness does to a picture, measured against the parameters that it was given."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import pytest
import torch
from pydantic import ValidationError

from streamlight.errors import ConfigError
from streamlight.training.degradation import (
    Coding,
    DarkCamera,
    DegradationParameters,
    DegradationRanges,
    Glow,
    Lamp,
    LightPool,
    SensorNoise,
    ToneCurve,
    UnevenLight,
    add_noise,
    degrade_clip,
    degrade_image,
    moving_view,
    noise_variance,
    perspective_view,
    sample_parameters,
    store,
)
from streamlight.training.degradation.light import glow_threshold
from streamlight.training.degradation.tone import decode, encode, luma, shoulder

HALF_CODE = 0.5 / 255 + 1e-6


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth colours with some texture, none of it at the ends of the range."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    smooth = torch.stack([0.3 + 0.4 * x, 0.3 + 0.4 * y, 0.6 - 0.3 * x * y])
    return (smooth + 0.05 * torch.randn(3, height, width, generator=rng(seed))).clamp(0.05, 0.95)


# -- tone -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [0.0, 5e-5, 1e-3, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_curve_and_its_inverse(contrast: float, gamma: float) -> None:
    curve = ToneCurve(gamma=gamma, contrast=contrast)
    values = torch.linspace(0, 1, 256)
    assert torch.allclose(encode(decode(values, curve), curve), values, atol=2e-5)
    assert (decode(values, curve).diff() > 0).all()


@pytest.mark.parametrize("size", [(48, 64), (1, 1), (1, 7), (5, 3), (33, 1)])
@pytest.mark.parametrize("curve", [ToneCurve(), ToneCurve(gamma=1.9, contrast=0.6)])
def test_without_parameters_the_picture_stays(size: tuple[int, int], curve: ToneCurve) -> None:
    image = picture(*size)
    pair = degrade_image(image, DegradationParameters(curve=curve, low_curve=curve), generator=rng())
    assert (pair.low - image).abs().max() <= HALF_CODE
    assert (pair.target - image).abs().max() < 2e-5


def test_exposure_is_a_factor_of_linear_light() -> None:
    image, curve = picture(), ToneCurve(gamma=2.0, contrast=0.4)
    parameters = DegradationParameters(exposure=1 / 9, curve=curve, low_curve=curve)
    pair = DarkCamera(parameters, image).record(image, generator=rng())
    assert torch.allclose(decode(pair.low, curve), decode(image, curve) / 9, atol=1e-5)
    assert torch.allclose(pair.target, image, atol=2e-5)


def test_darker_exposures_are_darker() -> None:
    means = [
        degrade_image(picture(), DegradationParameters(exposure=e), generator=rng()).low.mean().item()
        for e in (1.0, 1 / 1.5, 1 / 10, 1 / 100)
    ]
    assert means == sorted(means, reverse=True)
    assert means[-1] == pytest.approx(means[0] * 100 ** (-1 / 2.2), rel=0.05)


@pytest.mark.parametrize(("factor", "goal"), [(0.4, 0.36), (1.0, None), (1.3, 0.55)])
def test_target_is_pulled_into_the_range_of_brightness(factor: float, goal: float | None) -> None:
    image = (picture() * factor).clamp(0, 1)
    pair = degrade_image(image, DegradationParameters(exposure=0.1, pull=1.0), generator=rng())
    before, after = luma(image).mean().item(), luma(pair.target).mean().item()
    assert after == pytest.approx(before if goal is None else goal, abs=2e-3)
    half = degrade_image(image, DegradationParameters(exposure=0.1, pull=0.5), generator=rng()).target
    assert luma(half).mean().item() == pytest.approx((before + after) / 2, abs=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_have_no_brightness_to_pull(value: float) -> None:
    pair = degrade_image(torch.full((3, 4, 4), value), DegradationParameters(pull=1.0), generator=rng())
    assert (pair.target == value).all()


# -- light ----------------------------------------------------------------------------------------------------------


def test_target_of_uneven_light_is_not_scaled_up() -> None:
    image = torch.full((3, 40, 80), 0.6)
    light = UnevenLight(pools=(LightPool(x=0.0, y=0.5, radius=0.15),), ambient=0.01, keep=0.4)
    pair = degrade_image(image, DegradationParameters(light=light), generator=rng())
    assert pair.target.max().item() == pytest.approx(0.6, abs=0.01)  # lit walls keep their brightness
    far = decode(pair.target[:, 20, -1], ToneCurve()) / decode(image[:, 20, -1], ToneCurve())
    assert far.mean().item() == pytest.approx(0.01**0.4, rel=0.02)
    dark = decode(pair.low[:, 20, -1], ToneCurve()) / decode(image[:, 20, -1], ToneCurve())
    assert dark.mean().item() == pytest.approx(0.01, rel=0.15)  # 8 bit


def test_lamps_shine_in_both_pictures_and_saturate() -> None:
    image = torch.full((3, 60, 60), 0.4)
    lamp = Lamp(x=0.5, y=0.5, radius=0.05, level=3.0, halo=0.1, halo_radius=0.1, tint=(1.0, 0.8, 0.5))
    pair = degrade_image(image, DegradationParameters(exposure=1 / 50, lamps=(lamp,)), generator=rng())
    assert (pair.low[:, 30, 30] == 1).all()
    assert (pair.target[:, 30, 30] == 1).all()
    row = pair.low[0, 30, 33:]
    assert (row.diff() <= 0).all()
    assert row[0] > 4 * row[-1]
    red, green, blue = pair.low[:, 30, 36]
    assert red > green > blue
    assert (pair.target[:, 0, 0] - 0.4).abs().max() < 0.1


def test_lamp_of_less_than_a_pixel_is_seen() -> None:
    image = torch.zeros(3, 31, 31)
    lamp = Lamp(x=0.5, y=0.5, radius=0.001, level=1.0)
    pair = degrade_image(image, DegradationParameters(exposure=1 / 50, lamps=(lamp,)), generator=rng())
    assert pair.low[0].max() > 0.6
    assert (pair.low[0] > 0).sum() <= 4


def test_brightest_parts_glow_but_not_a_burnt_out_sky() -> None:
    image = torch.full((3, 50, 50), 0.3)
    image[:, 10:12, 10:12] = 0.95
    parameters = DegradationParameters(exposure=1 / 50, glow=Glow(share=0.0016, level=2.0, halo=0.1))
    low = degrade_image(image, parameters, generator=rng()).low
    assert (low[:, 10:12, 10:12] > 0.99).all()
    assert low[0, 40, 40] < 0.1
    assert low[0, 13, 11] > low[0, 40, 40]
    sky = torch.full((3, 50, 50), 0.3)
    sky[:, :20] = 1.0
    assert glow_threshold(decode(sky, ToneCurve()), Glow(share=0.01, level=2.0)) is None
    assert degrade_image(sky, parameters, generator=rng()).low.max() < 0.3


def test_colour_of_the_light_is_in_the_dark_picture_only() -> None:
    image = torch.full((3, 16, 16), 0.5)
    pair = degrade_image(image, DegradationParameters(exposure=0.5, illuminant=(1.3, 1.0, 0.7)), generator=rng())
    red, green, blue = decode(pair.low, ToneCurve()).mean((1, 2))
    assert (red / green).item() == pytest.approx(1.3, rel=0.03)
    assert (blue / green).item() == pytest.approx(0.7, rel=0.03)
    assert (pair.target - 0.5).abs().max() < 1e-5


def test_pedestal_black_level_and_blur() -> None:
    image = torch.zeros(3, 21, 21)
    image[:, 10, 10] = 1.0
    low = degrade_image(image, DegradationParameters(pedestal=0.1), generator=rng()).low
    assert low.min().item() == pytest.approx(0.1, abs=HALF_CODE)
    low = degrade_image(image, DegradationParameters(black=0.002), generator=rng()).low
    assert low.min().item() == pytest.approx(0.002 ** (1 / 2.2), abs=HALF_CODE)
    assert degrade_image(image, DegradationParameters(black=-0.002), generator=rng()).low.min() == 0
    pair = degrade_image(image, DegradationParameters(blur=0.9), generator=rng())
    assert decode(pair.low, ToneCurve())[0].sum().item() == pytest.approx(1.0, abs=0.05)
    assert pair.low[0, 10, 11] > 0.3
    assert pair.target[0, 10, 11] < 1e-6


# -- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.3])
@pytest.mark.parametrize("level", [0.0, 0.004, 0.2])
def test_variance_of_the_noise(correlation: float, level: float) -> None:
    noise = SensorNoise(shot=1e-3, read=2e-3, correlation=correlation, shared=0.3, gains=(1.5, 1.0, 2.0))
    flat = torch.full((3, 200, 200), level)
    residual = add_noise(flat, noise, generator=rng(3)) - flat
    for channel, gain in enumerate((1.5, 1.0, 2.0)):
        expected = 1e-3 * gain * level + (2e-3 * gain) ** 2
        assert residual[channel].var().item() == pytest.approx(expected, rel=0.12 if correlation > 1 else 0.06)
        assert noise_variance(flat, noise)[channel, 0, 0].item() == pytest.approx(expected)
        assert abs(residual[channel].mean().item()) < 6 * math.sqrt(expected) * max(1, 3 * correlation) / 200


@pytest.mark.parametrize("correlation", [0.0, 0.8, 1.5])
def test_noise_is_correlated_in_space_as_told(correlation: float) -> None:
    flat = torch.full((3, 256, 256), 0.1)
    residual = add_noise(flat, SensorNoise(read=1e-3, correlation=correlation), generator=rng(1)) - flat
    residual = residual / residual.std()
    expected = 0.0 if correlation == 0 else math.exp(-1 / (4 * correlation**2))
    for measured in ((residual[:, 1:] * residual[:, :-1]).mean(), (residual[..., 1:] * residual[..., :-1]).mean()):
        assert measured.item() == pytest.approx(expected, abs=0.04)


def test_noise_is_as_strong_at_the_border_as_inside() -> None:
    noise, flat = SensorNoise(read=1e-2, correlation=2.0), torch.zeros(3, 12, 12)
    stack = torch.stack([add_noise(flat, noise, generator=g) for g in [rng(5)] for _ in range(800)])
    spread = stack.std(0).mean(0)
    assert spread[0].mean().item() == pytest.approx(spread[5:7, 5:7].mean().item(), rel=0.06)
    assert spread[0, 0].item() == pytest.approx(1e-2, rel=0.08)


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_noise_is_correlated_between_channels_as_told(shared: float) -> None:
    flat = torch.full((3, 128, 128), 0.1)
    residual = add_noise(flat, SensorNoise(shot=1e-3, read=1e-3, shared=shared), generator=rng(2)) - flat
    table = torch.corrcoef(residual.flatten(1))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert table[a, b].item() == pytest.approx(shared, abs=0.04)


def test_rows_and_blotches() -> None:
    flat = torch.zeros(3, 400, 400)
    rows = add_noise(flat, SensorNoise(row=1e-2), generator=rng(4))
    assert (rows == rows[:1, :, :1]).all()
    assert rows[0, :, 0].std().item() == pytest.approx(1e-2, rel=0.12)
    still = add_noise(flat, SensorNoise(read=1e-3), generator=rng(4))
    blotches = add_noise(flat, SensorNoise(read=1e-3, blotch=3.0, blotch_size=8), generator=rng(4)) - still
    assert blotches.std().item() == pytest.approx(3e-3, rel=0.2)
    assert blotches.sum(0).abs().max() < 1e-6  # colour, no luma
    assert (blotches.diff(dim=-1).std() / blotches.std()).item() < 0.3


def test_noise_of_frames_is_independent_over_moving_content() -> None:
    photo = picture(64, 160)
    clip = moving_view(photo, frames=6, size=(64, 96), start=(0, 0), velocity=(0, 5))
    noise = SensorNoise(shot=5e-4, read=2e-3, correlation=0.6, shared=0.3)
    parameters = DegradationParameters(exposure=0.2, curve=ToneCurve(gamma=1.0), low_curve=ToneCurve(gamma=1.0))
    camera = DarkCamera(dataclasses.replace(parameters, noise=noise), clip[0])
    source = rng(6)
    pairs = [camera.record(frame, generator=source) for frame in clip]
    residuals = torch.stack([pair.low - 0.2 * frame for pair, frame in zip(pairs, clip, strict=True)])
    residuals = residuals / residuals.std()
    for first, second in itertools.pairwise(residuals):
        assert abs((first * second).mean().item()) < 0.05  # it does not stay in place
        assert abs((first[..., 5:] * second[..., :-5]).mean().item()) < 0.05  # nor go along with the content
    for pair, frame in zip(pairs, clip, strict=True):
        assert torch.allclose(pair.target, frame, atol=1e-5)
    assert torch.allclose(pairs[0].target[..., 5:], pairs[1].target[..., :-5], atol=1e-4)


# -- storage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "coding",
    [
        Coding(),
        Coding(subsampled=True),
        Coding(codec="jpeg", quality=60),
        Coding(codec="h264", quality=24),
        Coding(codec="hevc", quality=24, preset="superfast"),
    ],
    ids=lambda coding: coding.codec + "-420" * coding.subsampled,
)
@pytest.mark.parametrize("size", [(48, 64), (1, 1), (33, 71)])
def test_stored_pictures_are_8_bit_and_of_the_same_size(coding: Coding, size: tuple[int, int]) -> None:
    frames = torch.stack([picture(*size, seed=0) ** 2, picture(*size, seed=0) ** 2])
    stored = store(frames, coding)
    assert stored.shape == frames.shape
    assert torch.allclose(stored * 255, (stored * 255).round(), atol=1e-3)
    assert (stored - frames).abs().mean() < 0.06


@pytest.mark.parametrize("codec", ["jpeg", "h264", "hevc"])
def test_compression_is_real(codec: str) -> None:
    frame = (picture(64, 96) * 0.2 + 0.03 * torch.randn(3, 64, 96, generator=rng(8))).clamp(0, 1)[None]
    fine, coarse = (95, 10) if codec == "jpeg" else (10, 40)
    good, bad = (store(frame, Coding(codec=codec, quality=q)) for q in (fine, coarse))
    error = [(luma(stored) - luma(frame)).abs().mean().item() for stored in (good, bad)]
    assert error[1] > 2 * error[0] > 0
    assert luma(bad).diff(dim=-1).abs().mean() < 0.5 * luma(good).diff(dim=-1).abs().mean()  # detail is gone


def test_later_frames_are_predicted_from_earlier_ones() -> None:
    """Inter prediction leaves the noise of the first frame standing: the purple-grey blocks of night video."""
    frames = (0.05 + 0.01 * torch.randn(4, 3, 64, 64, generator=rng(9))).clamp(0, 1)
    stored = store(frames, Coding(codec="h264", quality=32))
    kept = (stored[1:] - stored[:-1]).abs().mean() / (frames[1:] - frames[:-1]).abs().mean()
    assert kept < 0.5


def test_subsampling_blends_colour_and_keeps_luma() -> None:
    frame = torch.full((1, 3, 16, 16), 0.5)
    frame[:, 0, :, ::2] += 0.2
    frame[:, 2, :, ::2] -= 0.2
    stored = store(frame, Coding(subsampled=True))
    chroma = (stored[:, 0] - stored[:, 2]).diff(dim=-1).abs().mean()
    assert chroma < 0.2 * (frame[:, 0] - frame[:, 2]).diff(dim=-1).abs().mean()
    assert (luma(stored) - luma(frame)).abs().max() < 4 / 255


# -- radiance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e3])
def test_radiance_is_exposed_for_its_key_and_keeps_its_lamps(scale: float) -> None:
    radiance = decode(picture(), ToneCurve()) * scale
    radiance[:, 10, 10] = 200 * scale
    parameters = DegradationParameters(exposure=1 / 60, key=0.45)
    pair = degrade_image(radiance, parameters, generator=rng(), radiance=True)
    assert luma(pair.target).mean().item() == pytest.approx(0.45, abs=0.01)
    assert (pair.low[:, 10, 10] == 1).all()  # a real lamp stays one at 1/60
    assert pair.low[:, 20, 20].max() < 0.2


def test_shoulder_is_smooth_and_bounded() -> None:
    light = torch.linspace(0, 50, 5001)
    out = shoulder(light)
    assert torch.equal(out[light <= 0.8], light[light <= 0.8])
    assert out.max() <= 1
    assert (out.diff() >= 0).all()
    assert out.diff().diff().abs().max() < 1e-3


def test_black_radiance_is_black() -> None:
    pair = degrade_image(torch.zeros(3, 8, 8), DegradationParameters(), generator=rng(), radiance=True)
    assert pair.low.max() == pair.target.max() == 0


# -- drawing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["still", "clip"])
def test_seeds_reproduce_parameters_and_pictures(kind: str) -> None:
    one, two, other = (sample_parameters(rng(seed), kind=kind) for seed in (7, 7, 8))
    assert one == two != other
    clip = torch.stack([picture(seed=s) for s in range(2)])
    first, second, third = (degrade_clip(clip, one, generator=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.low, second.low)
    assert torch.equal(first.target, third.target)
    assert not torch.equal(first.low, third.low)


def test_draws_lie_in_their_ranges_and_survive_json() -> None:
    source = rng(0)
    drawn = [sample_parameters(source) for _ in range(400)]
    dark = [p.exposure for p in drawn if p.exposure < 1]
    assert 1 / 100 <= min(dark) < 1 / 60
    assert 1 / 3 < max(dark) <= 1 / 1.5
    assert 10 < len(drawn) - len(dark) < 60
    assert {p.coding.codec for p in drawn} == {"none", "jpeg", "h264", "hevc"}
    assert {p.noise.sensor for p in drawn} == {"camera", "phone", "dashcam", "surveillance"}
    assert 0.3 < sum(p.light is not None for p in drawn) / len(dark) < 0.6
    assert any(p.light is not None and p.light.ambient < 0.03 for p in drawn)
    assert any(p.lamps for p in drawn)
    assert any(p.glow for p in drawn)
    for p in drawn:
        assert DegradationParameters.from_json(json.loads(json.dumps(p.to_json()))) == p
        if p.exposure == 1:
            assert (p.light, p.lamps, p.glow, p.illuminant) == (None, (), None, (1, 1, 1))
            assert p.curve == p.low_curve
            assert p.noise.read < 3e-4
    assert {sample_parameters(source, kind="clip").coding.codec for _ in range(60)} == {"none", "h264", "hevc"}


def test_drawn_identity_leaves_day_alone() -> None:
    ranges = DegradationRanges(stills=(("none", 1.0),), subsampled=0.0, blur=0.0, pull=0.0)
    pair = degrade_image(picture(), sample_parameters(rng(1), ranges=ranges, exposure=1.0), generator=rng())
    assert (pair.low - picture()).abs().mean() < 0.01
    assert torch.allclose(pair.target, picture(), atol=2e-5)


def test_fixed_exposure_leaves_the_other_draws_as_they_are() -> None:
    seeds = [seed for seed in range(20) if sample_parameters(rng(seed)).exposure < 1]
    for seed in seeds:
        drawn, fixed = sample_parameters(rng(seed)), sample_parameters(rng(seed), exposure=1 / 25)
        assert fixed == dataclasses.replace(drawn, exposure=1 / 25)


def test_every_draw_can_be_applied_to_any_size() -> None:
    source = rng(11)
    for index, size in enumerate([(1, 1), (1, 9), (7, 5), (40, 30), (65, 33)] * 3):
        parameters = sample_parameters(source)
        pair = degrade_image(picture(*size, seed=index), parameters, generator=source)
        assert pair.low.shape == pair.target.shape == (3, *size)
        for image in pair:
            assert image.min() >= 0
            assert image.max() <= 1


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (torch.zeros(1, 4, 4), "shape"),
        (torch.zeros(3, 0, 4), "shape"),
        (torch.zeros(4, 4), "shape"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "255"),
        (torch.full((3, 4, 4), float("nan")), "NaN"),
    ],
)
def test_bad_pictures(image: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        degrade_image(image, DegradationParameters(), generator=rng())


def test_bad_clips() -> None:
    with pytest.raises(ValueError, match="at least one"):
        degrade_clip([], DegradationParameters(), generator=rng())
    with pytest.raises(ValueError, match="like the first"):
        degrade_clip([torch.zeros(3, 4, 4), torch.zeros(3, 4, 5)], DegradationParameters(), generator=rng())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"exposur": 0.1}, ["unknown key 'exposur'", "did you mean 'exposure'"]),
        ({"noise": {"reed": 0.1}}, ["unknown key 'noise.reed'", "did you mean 'read'"]),
        ({"exposure": 0}, ["exposure", "greater than 0", "got 0"]),
        ({"exposure": True}, ["exposure", "boolean"]),
        ({"black": float("nan")}, ["black", "finite"]),
        ({"coding": {"codec": "h264", "quality": 70}}, ["coding", "0 to 51"]),
        ({"coding": {"codec": "none", "quality": 7}}, ["coding", "no quality"]),
        ({"lamps": [{"x": 0}]}, ["lamps.0.y"]),
    ],
)
def test_bad_parameters_are_named(data: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        DegradationParameters.from_json(data, origin="mine.json")
    assert all(word in str(caught.value) for word in ["mine.json", *words])


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"exposure": (0.5, 0.1)}, "exposure"),
        ({"exposure": (0.0, 0.1)}, "exposure"),
        ({"crf": (10, 60)}, "crf"),
        ({"stills": ()}, "stills"),
        ({"clips": (("h264", 0.0),)}, "clips"),
        ({"clips": (("jpeg", 1.0),)}, "clips"),
        ({"sensors": ()}, "sensors"),
        ({"identity": 1.2}, "identity"),
        ({"identty": 0.2}, "identty"),
    ],
)
def test_bad_ranges_are_refused(values: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        DegradationRanges(**values)


def test_exposure_above_one_is_refused_in_code_too() -> None:
    with pytest.raises(ValidationError):
        sample_parameters(rng(), exposure=2.0)


# -- moving views ---------------------------------------------------------------------------------------------------


def test_moving_view_is_exact_at_whole_pixels_and_stops_at_the_border() -> None:
    image = picture(20, 30)
    clip = moving_view(image, frames=5, size=(8, 10), start=(2, 3), velocity=(1, 5))
    for index in range(4):
        y, x = 2 + index, 3 + 5 * index
        assert torch.allclose(clip[index], image[:, y : y + 8, x : x + 10], atol=1e-5)
    assert torch.allclose(clip[4], image[:, 6:14, 20:30], atol=1e-5)
    assert torch.allclose(
        moving_view(image, frames=2, size=(20, 30), start=(0, 0), velocity=(1, 1))[1], image, atol=1e-5
    )
    with pytest.raises(ValueError, match="does not fit"):
        moving_view(image, frames=1, size=(21, 10), start=(0, 0), velocity=(0, 0))


def test_perspective_view_looks_where_it_is_told() -> None:
    panorama = torch.zeros(3, 64, 128)
    panorama[0, :, 60:68] = 1.0  # red ahead
    panorama[1, :, 92:100] = 1.0  # green 90 degrees to the right
    panorama[2, :16] = 1.0  # blue above
    view = {"field_of_view": 40.0, "size": (9, 9)}
    assert perspective_view(panorama, yaw=0, pitch=0, **view)[:, 4, 4].tolist() == pytest.approx([1, 0, 0], abs=1e-4)
    assert perspective_view(panorama, yaw=90, pitch=0, **view)[:, 4, 4].tolist() == pytest.approx([0, 1, 0], abs=1e-4)
    assert perspective_view(panorama, yaw=45, pitch=80, **view)[2, 4, 4].item() == pytest.approx(1, abs=1e-4)
    ahead = perspective_view(panorama, yaw=80, pitch=0, **view)
    assert ahead[1, 4].argmax() > 4  # what lies further right is right of the middle
