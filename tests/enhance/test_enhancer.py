"""What a stream of frames looks like behind the enhancer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
import torch

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.errors import ConfigError, DeviceError, ModelError
from streamlight.media.frame import ColorSpec, Frame

TICK = Fraction(1, 25)


def frame(luma: np.ndarray, *, cb: float = 128, cr: float = 128, pts: int = 0, color: ColorSpec | None = None) -> Frame:
    """An 8-bit 4:2:0 frame from luma codes and two chroma values."""
    height, width = luma.shape
    chroma = ((height + 1) // 2, (width + 1) // 2)
    planes = (
        np.clip(np.rint(luma), 0, 255).astype(np.uint8),
        np.full(chroma, round(cb), np.uint8),
        np.full(chroma, round(cr), np.uint8),
    )
    return Frame(planes, color or ColorSpec(), pts=pts, time_base=TICK)


def night(*, seed: int = 0, noise: float = 0.8, level: float = 1.0, size: tuple[int, int] = (96, 160)) -> np.ndarray:
    """A dark scene: a gradient, a wall with bricks, sensor noise; luma codes of limited range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    scene = 4 + 10 * x / size[1] + 4.0 * ((x // 16 + y // 12) % 2)
    return 16 + level * scene + rng.normal(0, noise, size)


def run(frames: Iterable[Frame], **settings) -> list[Frame]:
    enhancer = build_enhancer("retinex", settings=EnhanceSettings(**{"workers": 1, **settings}))
    state = enhancer.new_state()
    out = []
    for item in frames:
        out += enhancer([item], [state])
    enhancer.close()
    return out


def luma(item: Frame) -> np.ndarray:
    return item.planes[0].astype(np.float64)


def test_dark_becomes_bright_and_keeps_its_order():
    source = frame(night(noise=0.0))
    before = luma(source).copy()
    (result,) = run([source])
    after = luma(result)
    assert result is source
    assert after.mean() > 16 + 4 * (before.mean() - 16)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9


def test_daylight_is_left_alone():
    y, x = np.mgrid[:96, :160]
    day = 120 + 60 * np.sin(x / 11.0) * np.cos(y / 9.0)
    source = frame(day, cb=110, cr=150)
    before = [plane.astype(int).copy() for plane in source.planes]
    (result,) = run([source])
    for old, new in zip(before, result.planes, strict=True):
        assert np.abs(new.astype(int) - old).max() <= 2


def test_strength_zero_returns_the_very_planes():
    source = frame(night())
    planes = source.planes
    (result,) = run([source], strength=0.0)
    assert all(a is b for a, b in zip(result.planes, planes, strict=True))


def test_strength_is_monotonic():
    means = [luma(run([frame(night())], strength=s)[0]).mean() for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert means == sorted(means)
    assert means[-1] > 1.5 * means[0]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_snapshot_continues_bit_exactly(workers):
    def clip(first: int, last: int) -> list[Frame]:
        return [frame(night(seed=i, level=1 + 0.1 * math.sin(i)), cb=120, cr=133, pts=i) for i in range(first, last)]

    whole = run(clip(0, 12))
    one = build_enhancer("retinex", settings=EnhanceSettings(workers=workers))
    state = one.new_state()
    for item in clip(0, 7):
        one([item], [state])
    saved = one.snapshot(state)
    one([frame(night(seed=99), pts=7)], [state])  # the snapshot is a copy, not a view
    other = build_enhancer("retinex", settings=EnhanceSettings(workers=1))
    state = other.restore(saved)
    for i, item in enumerate(clip(7, 12)):
        (result,) = other([item], [state])
        for a, b in zip(result.planes, whole[7 + i].planes, strict=True):
            np.testing.assert_array_equal(a, b)


def test_static_noise_falls_below_the_gain():
    frames = [frame(night(seed=i, noise=1.0), pts=i) for i in range(20)]
    source = np.stack([luma(f) for f in frames])
    result = np.stack([luma(f) for f in run(frames)])
    gain = (result[-1].mean() - 16) / (source[-1].mean() - 16)
    noise_in, noise_out = source[10:].std(axis=0).mean(), result[10:].std(axis=0).mean()
    assert gain > 3
    assert noise_out < 0.35 * gain * noise_in


def test_moving_object_leaves_no_ghost():
    def scene(i: int) -> np.ndarray:
        picture = night(seed=i, noise=0.6)
        picture[30:60, 8 * i : 8 * i + 16] = 60.0
        return picture

    results = run([frame(scene(i), pts=i) for i in range(16)])
    clean = run([frame(night(seed=i, noise=0.6), pts=i) for i in range(16)])
    # Two frames after it has left, the place looks as if it had never been there.
    trail = luma(results[15])[34:56, 8 * 12 : 8 * 13] - luma(clean[15])[34:56, 8 * 12 : 8 * 13]
    assert abs(trail.mean()) < 6
    assert luma(results[15])[34:56, 124:132].mean() > luma(results[15])[70:90, 124:132].mean() + 30


def test_flickering_exposure_is_damped():
    """A camera whose brightness pulses by 10 % must not make the decision pulse with it."""
    frames = [frame(night(noise=0.3, level=3.0 + 0.3 * (i % 2)), pts=i) for i in range(40)]
    smooth = [luma(f).mean() for f in run(frames)]
    frames = [frame(night(noise=0.3, level=3.0 + 0.3 * (i % 2)), pts=i) for i in range(40)]
    enhancer = build_enhancer("retinex", settings=EnhanceSettings(workers=1))
    state = enhancer.new_state()
    decisions = []
    for item in frames:
        enhancer([item], [state])
        assert state.prior is not None
        decisions.append(float(state.prior[0, 0]))
    raw = build_enhancer("retinex", settings=EnhanceSettings(workers=1, time_constant=0.0))
    state = raw.new_state()
    jumps = []
    for i in range(40):
        raw([frame(night(noise=0.3, level=3.0 + 0.3 * (i % 2)), pts=i)], [state])
        assert state.prior is not None
        jumps.append(float(state.prior[0, 0]))
    assert np.abs(np.diff(decisions[20:])).max() < 0.2 * np.abs(np.diff(jumps[20:])).max()
    assert np.abs(np.diff(jumps[20:])).max() > 0
    assert np.std(smooth[20:]) < 8


def test_lamps_do_not_grow_or_turn_grey():
    y, x = np.mgrid[:96, :160]
    distance = np.hypot(x - 80, y - 40)
    picture = 20 + 215 * np.exp(-np.maximum(distance - 6, 0) / 2.0)
    results = run([frame(picture, pts=i) for i in range(3)])
    after = luma(results[-1])
    white_before, white_after = (picture > 225).sum(), (after > 225).sum()
    assert after[38:43, 78:83].min() >= 230
    assert white_after <= 2.2 * white_before
    assert after[distance > 40].mean() < 110


def test_infrared_stays_neutral():
    rng = np.random.default_rng(0)
    frames = []
    for i in range(4):
        item = frame(night(seed=i), pts=i)
        chroma = [
            np.clip(np.rint(128 + rng.normal(0, 0.3, p.shape)), 127, 129).astype(np.uint8) for p in item.planes[1:]
        ]
        item.planes = (item.planes[0], *chroma)
        frames.append(item)
    for item in run(frames):
        for plane in item.planes[1:]:
            assert np.abs(plane.astype(int) - 128).max() <= 1


def test_one_code_of_chroma_in_the_black_is_not_a_coloured_sheet():
    dark = np.full((96, 160), 19.0)
    dark[:, 80:] = 120.0
    item = frame(dark, cb=129, cr=129)
    item.planes[1][:, 40:], item.planes[2][:, 40:] = 100, 160  # real colour beside it
    (result,) = run([item])
    for plane in result.planes[1:]:
        assert np.abs(plane[:, :36].astype(int) - 128).max() <= 2
        assert np.abs(plane[:, 44:].astype(int) - 128).min() >= 20


class TestForgetting:
    def fed(self, items: list[Frame]):
        enhancer = build_enhancer("retinex", settings=EnhanceSettings(workers=1))
        state = enhancer.new_state()
        for item in items:
            enhancer([item], [state])
        return state

    def test_steady_scene(self):
        assert self.fed([frame(night(seed=i), pts=i) for i in range(6)]).age == 6

    def test_cut(self):
        items = [frame(night(seed=i), pts=i) for i in range(4)]
        items += [frame(night(seed=i)[::-1, ::-1] * 3, pts=i) for i in range(4, 6)]
        state = self.fed(items)
        assert (state.age, state.cuts) == (2, 1)

    def test_after_a_cut_the_old_scene_does_not_show(self):
        old = [frame(np.full((96, 160), 40.0) + 60 * (np.mgrid[:96, :160][1] > 80), pts=i) for i in range(5)]
        new = frame(night(seed=7), pts=5)
        alone = frame(night(seed=7), pts=5)
        joined = run([*old, new])[-1]
        np.testing.assert_array_equal(joined.planes[0], run([alone])[0].planes[0])

    @pytest.mark.parametrize("pts", [4 + 26 * 3, 1], ids=["gap", "backwards"])
    def test_gap(self, pts):
        state = self.fed([*(frame(night(seed=i), pts=i) for i in range(4)), frame(night(seed=5), pts=pts)])
        assert (state.age, state.cuts) == (1, 0)

    def test_size_change(self):
        items = [frame(night(seed=i), pts=i) for i in range(3)]
        items.append(frame(night(size=(60, 100)), pts=3))
        assert self.fed(items).age == 1

    def test_size_change_with_the_same_small_copy(self):
        """Growing by one column leaves the grid as it is; stale memory would be read beyond its end."""
        items = [frame(night(seed=i, size=(96, 159)), pts=i) for i in range(3)]
        items.append(frame(night(size=(96, 160)), pts=3))
        state = self.fed(items)
        assert state.age == 1
        assert state.memory[0].shape == (96, 160)


@pytest.mark.parametrize(
    "color",
    [
        ColorSpec(bit_depth=10),
        ColorSpec(chroma="422", bit_depth=12, range="full"),
        ColorSpec(chroma="444"),
        ColorSpec(chroma="400", bit_depth=16, range="full"),
        ColorSpec(chroma="411"),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (17, 31), (91, 163)])
def test_every_format_and_size(color, size):
    height, width = size
    shift_x, shift_y = color.chroma_shift
    rng = np.random.default_rng(0)
    items = []
    for i in range(3):
        shapes = [(height, width)]
        if color.chroma != "400":
            shapes += [(-(-height // (1 << shift_y)), -(-width // (1 << shift_x)))] * 2
        ramp = np.linspace(color.peak / 14, color.peak / 8, width) + rng.normal(0, color.peak / 500, (height, width))
        planes = tuple(
            ramp.astype(color.dtype) if k == 0 else np.full(shape, (color.peak + 1) // 2, color.dtype)
            for k, shape in enumerate(shapes)
        )
        items.append(Frame(planes, color, pts=i, time_base=TICK))
    before = [plane.copy() for plane in items[-1].planes]
    result = run(items)[-1]
    assert [p.shape for p in result.planes] == [p.shape for p in before]
    assert all(p.dtype == color.dtype for p in result.planes)
    assert all(int(p.max()) <= color.peak for p in result.planes)
    assert result.planes[0].mean() > 1.2 * before[0].mean()


def test_ten_bit_agrees_with_eight():
    eight = run([frame(night(noise=0.0), cb=120, cr=135)])[0]
    item = frame(night(noise=0.0), cb=120, cr=135)
    item.planes = tuple(plane.astype(np.uint16) * 4 for plane in item.planes)
    item.color = ColorSpec(bit_depth=10)
    ten = run([item])[0]
    for a, b in zip(eight.planes, ten.planes, strict=True):
        assert np.abs(a.astype(float) - b / 4.0).max() <= 0.76


class TestRefusals:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.01])
    def test_strength(self, value):
        with pytest.raises(ConfigError, match=r"strength must be between 0 and 1"):
            EnhanceSettings(strength=value)

    def test_unknown_model_names_the_nearest(self):
        with pytest.raises(ModelError, match=r"retinx.*retinex"):
            build_enhancer("retinx")

    def test_device(self):
        with pytest.raises(DeviceError, match="cuda:7"):
            build_enhancer("retinex", device="cuda:7")


def test_small_tensors_stay_on_one_thread(monkeypatch):
    """Spinning OpenMP threads once cost a factor of ten on a busy machine; the caller's setting must survive."""
    enhancer = build_enhancer("retinex", settings=EnhanceSettings(workers=1))
    seen = []
    original = enhancer.model.condition

    def condition(*args, **keywords):
        seen.append(torch.get_num_threads())
        return original(*args, **keywords)

    monkeypatch.setattr(enhancer.model, "condition", condition)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        enhancer([frame(night())], [enhancer.new_state()])
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_below_black_is_no_trouble():
    """Code 0 lies below limited-range black: encoders' black frames and decoders' concealment write it."""
    frames = [frame(night(seed=k), pts=k) for k in range(2)]
    frames += [frame(np.zeros((96, 160)), pts=2 + k) for k in range(2)]
    results = run(frames)
    assert all(item.planes[0].mean() <= 16 for item in results[2:])
