"""The gate follows the light: hysteresis, hold, fade, infrared; nothing depends on the frame rate."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamlight.enhance.gate import DarkGate, GateSettings, chroma_spread, small_luma
from streamlight.errors import ConfigError
from streamlight.media import ColorSpec, Frame

DARK, DUSK, BRIGHT = 30, 77, 140  # levels of about 0.06, 0.28 and 0.57


def frame(code: int, seconds: float, *, color: ColorSpec | None = None, tint: int = 20, size=(64, 48)) -> Frame:
    spec = color or ColorSpec()
    width, height = size
    unit = 1 << (spec.bit_depth - 8)
    chroma = np.full((height // 2, width // 2), 128 * unit, spec.dtype)
    chroma[:, ::2] += spec.dtype.type(tint * unit)
    luma = np.full((height, width), code * unit, spec.dtype)
    return Frame((luma, chroma, chroma.copy()), spec, pts=round(seconds * 90000), time_base=Fraction(1, 90000))


def run(gate: DarkGate, code: int, start: float, seconds: float, rate: float) -> list[float]:
    weights = []
    for i in range(round(seconds * rate)):
        gate.look(frame(code, start + i / rate))
        weights.append(gate.weight)
    return weights


def test_the_first_frame_decides_at_once() -> None:
    assert DarkGate().look(frame(DARK, 0)) == "enhanced"
    assert DarkGate().look(frame(BRIGHT, 0)) == "untouched"
    assert DarkGate(always=True).look(frame(BRIGHT, 0)) == "enhanced"


@pytest.mark.parametrize("rate", [5, 30])
def test_light_is_followed_after_the_hold_and_with_a_fade(rate: float) -> None:
    gate = DarkGate()
    assert set(run(gate, DARK, 0, 3, rate)) == {1.0}
    weights = run(gate, BRIGHT, 3, 4, rate)
    times = [i / rate for i in range(len(weights))]
    began = next(t for t, w in zip(times, weights, strict=True) if w < 1.0)
    ended = next(t for t, w in zip(times, weights, strict=True) if w == 0.0)
    assert 1.0 <= began <= 2.3  # the hold, and the smoothing of the level before it
    assert ended - began == pytest.approx(0.5, abs=1.01 / rate)
    assert weights == sorted(weights, reverse=True)
    assert gate.look(frame(BRIGHT, 7)) == "untouched"
    back = run(gate, DARK, 7, 4, rate)
    assert back[-1] == 1.0
    assert back == sorted(back)
    assert any(0.0 < w < 1.0 for w in back)


def test_dusk_between_the_thresholds_changes_nothing_either_way() -> None:
    gate = DarkGate()
    run(gate, DARK, 0, 1, 20)
    assert set(run(gate, DUSK, 1, 5, 20)) == {1.0}
    gate = DarkGate()
    run(gate, BRIGHT, 0, 1, 20)
    assert set(run(gate, DUSK, 1, 5, 20)) == {0.0}


def test_a_headlight_shorter_than_the_hold_is_over_before_anything_happens() -> None:
    gate = DarkGate()
    run(gate, DARK, 0, 2, 20)
    run(gate, BRIGHT, 2, 0.8, 20)
    assert set(run(gate, DARK, 2.8, 5, 20)) == {1.0}


def test_after_a_gap_the_light_is_judged_afresh() -> None:
    gate = DarkGate()
    run(gate, DARK, 0, 2, 20)
    assert gate.look(frame(BRIGHT, 10)) == "untouched"
    assert gate.look(frame(DARK, 3)) == "enhanced"  # time ran backwards: another stream


def test_a_fade_mixes_code_values_in_every_depth() -> None:
    for depth in (8, 10):
        spec = ColorSpec(bit_depth=depth)
        gate = DarkGate()
        gate.look(frame(DARK, 0, color=spec))
        gate.weight = 0.25
        before, after = frame(40, 0, color=spec).planes, frame(80, 0, color=spec).planes
        mixed = gate.finish(before, after)
        assert [plane.dtype for plane in mixed] == [spec.dtype] * 3
        assert set(np.unique(mixed[0])) == {50 << (depth - 8)}
        gate.weight = 1.0
        assert all(a is b for a, b in zip(gate.finish(before, after), after, strict=True))


@pytest.mark.parametrize("depth", [8, 10])
def test_infrared_keeps_the_camera_s_chroma(depth: int) -> None:
    spec = ColorSpec(bit_depth=depth)
    gate = DarkGate()
    grey = frame(DARK, 0, color=spec, tint=0)
    for plane in grey.planes[1:]:
        plane += spec.dtype.type(1 << (depth - 8))  # converters leave a monochrome picture a code off neutral
    assert gate.look(grey) == "enhanced"
    assert gate.infrared
    painted = frame(BRIGHT, 0, color=spec, tint=40).planes
    result = gate.finish(grey.planes, painted)
    assert result[0] is painted[0]
    assert result[1] is grey.planes[1]
    # Colour comes back with the morning; a code or two of coding noise is none.
    gate.look(frame(DARK, 0.2, color=spec, tint=2))
    assert gate.infrared
    gate.look(frame(DARK, 0.4, color=spec, tint=20))
    assert not gate.infrared
    assert gate.finish(grey.planes, painted)[1] is painted[1]


def test_luma_alone_is_infrared_and_has_no_chroma_to_keep() -> None:
    spec = ColorSpec(chroma="400")
    lone = replace(frame(DARK, 0), color=spec, planes=frame(DARK, 0).planes[:1])
    gate = DarkGate()
    gate.look(lone)
    assert chroma_spread(lone) == 0.0
    assert gate.infrared
    assert len(gate.finish(lone.planes, lone.planes)) == 1


def test_noise_counts_as_darkness() -> None:
    rng = np.random.default_rng(1)
    settings = GateSettings(dark_below=0.27, bright_above=0.27)
    calm, noisy = frame(77, 0, size=(480, 270)), frame(77, 0, size=(480, 270))
    grain = rng.normal(0.0, 2.0, noisy.planes[0].shape)
    noisy.planes = (np.clip(noisy.planes[0] + grain, 0, 255).round().astype(np.uint8), *noisy.planes[1:])
    assert DarkGate(settings).look(calm) == "untouched"
    assert DarkGate(settings).look(noisy) == "enhanced"


def test_small_luma_is_bounded_and_normalised() -> None:
    wide = frame(16, 0, size=(1920, 1080))
    assert small_luma(wide).shape == (270, 480)
    assert float(small_luma(wide).max()) == 0.0
    assert float(small_luma(frame(235, 0)).min()) == pytest.approx(1.0)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="dark_below"):
        GateSettings(dark_below=0.5, bright_above=0.4)
    with pytest.raises(ConfigError, match="negative"):
        GateSettings(fade=-1)
