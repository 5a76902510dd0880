"""Settings that change while a stream runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.errors import ConfigError
from tests.enhance.test_enhancer import frame, luma, night

SETTINGS = EnhanceSettings(working_size=160, workers=1)


def test_the_same_settings_change_nothing():
    enhancer = build_enhancer("retinex", settings=SETTINGS)
    twin, one, two = enhancer.adjusted(SETTINGS), enhancer.new_state(), enhancer.new_state()
    for i in range(5):
        (a,) = enhancer([frame(night(seed=i, size=(96, 320)), pts=i)], [one])
        (b,) = (enhancer, twin)[i % 2]([frame(night(seed=i, size=(96, 320)), pts=i)], [two])
        np.testing.assert_array_equal(a.planes[0], b.planes[0])
    assert twin.model is enhancer.model
    enhancer.close()


def test_a_step_down_and_up_again_is_not_seen():
    enhancer = build_enhancer("retinex", settings=SETTINGS)
    small = enhancer.adjusted(replace(SETTINGS, working_size=80))
    state = enhancer.new_state()
    means = []
    for i in range(18):
        step = small if 6 <= i < 12 else enhancer
        (result,) = step([frame(night(seed=i, size=(96, 320)), pts=i)], [state])
        means.append(luma(result).mean())
    enhancer.close()
    assert (state.age, state.cuts) == (18, 0)
    assert np.abs(np.diff(means[3:])).max() < 1.0


def test_what_the_step_cannot_scale_begins_anew():
    enhancer = build_enhancer("retinex", settings=SETTINGS)
    state = enhancer.new_state()
    for i in range(4):
        enhancer([frame(night(seed=i, size=(96, 320)), pts=i)], [state])
    prior = state.prior
    enhancer.adjusted(replace(SETTINGS, working_size=80))([frame(night(seed=4, size=(96, 320)), pts=4)], [state])
    enhancer.close()
    assert state.small is not None
    assert state.small.shape == (3, 24, 80)
    assert prior is not None
    assert state.prior is not None
    assert float((state.prior - prior).abs().max()) == 0.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("keyframe_interval", 0, "at least 1 frame"), ("direct_limit", -1, "0 pixels or more")],
)
def test_refusals(name, value, words):
    with pytest.raises(ConfigError, match=f"{name} must be .*{words}, got {value}"):
        EnhanceSettings(**{name: value})
