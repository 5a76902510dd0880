"""Key frames: what the model decided on one frame, carried to the frames behind it."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.enhance.color import planes_from_rgb
from streamlight.enhance.keyframes import apply_curve, fit_curve
from streamlight.enhance.keyworker import KeyWorker
from streamlight.errors import ModelError
from streamlight.media.frame import ColorSpec, Frame
from streamlight.models.protocol import Condition, ModelCard, Prior
from streamlight.temporal import StreamState

SIZE = (96, 160)
SETTINGS = EnhanceSettings(workers=1, working_size=80, keyframe_interval=5, denoise=0.0)


class Lifting:
    """Five times as bright, more so on the left; counts its pictures and can be held up or fail."""

    card = ModelCard(name="lifting", summary="", revision="1")
    temperature = 0.0

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def condition(self, low, *, noise=None, recall=None):
        return Condition(low)

    def prior(self, condition):
        return Prior(condition.low)

    def decode(self, latent, condition, *, strength=1.0):
        self.calls += 1
        if not self.go.wait(20):
            raise AssertionError("held up for good")
        if self.error is not None:
            raise self.error
        low = condition.low
        return (low * torch.linspace(6.0, 4.0, low.shape[-1])).clamp(0, 1)


def scene(index: int, *, speed: float = 0.0, light: float = 1.0, seed: int = 1) -> Frame:
    """A textured wall that moves ``speed`` pixels a frame to the left."""
    rng = np.random.default_rng(seed)
    wide = torch.from_numpy(rng.random((3, 14, 60)).astype(np.float32))
    wall = torch.nn.functional.interpolate(wide[None], (SIZE[0], 640), mode="bicubic")[0].clamp(0, 1)
    x = round(index * speed)
    rgb = light * (0.02 + 0.12 * wall[..., x : x + SIZE[1]])
    return Frame(planes_from_rgb(rgb, ColorSpec()), ColorSpec(), pts=index, time_base=Fraction(1, 25))


def lumas(frames, model=None, *, settings=SETTINGS, states=None):
    """Luma planes behind the enhancer, and the numbers of the frames on which the model ran."""
    model = model or Lifting()
    enhancer = build_enhancer(model, mode="guided", settings=settings)
    state = enhancer.new_state()
    out, keys = [], []
    for i, item in enumerate(frames):
        before = model.calls
        out.append(enhancer([item], [state])[0].planes[0].astype(float))
        keys += [i] * (model.calls - before)
    enhancer.close()
    return out, keys


def test_the_model_runs_on_every_nth_frame():
    assert lumas([scene(i) for i in range(12)])[1] == [0, 5, 10]


def test_one_is_every_frame():
    assert lumas([scene(i) for i in range(3)], settings=replace(SETTINGS, keyframe_interval=1))[1] == [0, 1, 2]


@pytest.mark.parametrize("speed", [0.0, 2.0])
def test_carried_frames_look_like_decided_ones(speed):
    carried, _ = lumas([scene(i, speed=speed) for i in range(10)])
    decided, _ = lumas([scene(i, speed=speed) for i in range(10)], settings=replace(SETTINGS, keyframe_interval=1))
    errors = [np.abs(a - b).mean() for a, b in zip(carried, decided, strict=True)]
    assert errors[0] == 0.0
    assert max(errors) < 2.5  # the model's gain belongs to places, and goes along with the scene


def test_light_is_followed_between_key_frames():
    """The decision is about the scene, not about its light: a lamp that fades in is seen at once."""
    light = [1.0, 1.03, 1.06, 1.09, 1.12]
    carried, keys = lumas([scene(i, light=level) for i, level in enumerate(light)])
    assert keys == [0]
    rise = (carried[4].mean() - 16) / (carried[0].mean() - 16)
    assert rise == pytest.approx(1.12, abs=0.03)


def test_a_cut_is_decided_at_once():
    frames = [*(scene(i) for i in range(3)), *(scene(i, seed=2, light=3.0) for i in range(3, 6))]
    assert lumas(frames)[1] == [0, 3]


def test_a_gap_is_decided_at_once():
    assert lumas([scene(i) for i in (0, 1, 2, 100, 101)])[1] == [0, 3]


def test_a_change_of_light_outdates_the_decision_but_not_on_every_frame():
    levels = [1.0, 1.0, 1.15, 1.3, 1.45, 1.6, 1.75, 1.9]
    frames = [scene(i, light=level) for i, level in enumerate(levels)]
    _, keys = lumas(frames, settings=replace(SETTINGS, keyframe_interval=8))
    assert 2 <= len(keys) <= 4
    assert np.diff(keys).min() >= 2


def test_a_still_scene_does_not_drift_or_breathe():
    def noisy(index: int) -> Frame:
        item = scene(0)
        noise = np.random.default_rng(index).normal(0, 1.0, SIZE)
        item.planes = (np.clip(np.rint(item.planes[0] + noise), 0, 255).astype(np.uint8), *item.planes[1:])
        item.pts = index
        return item

    out, _ = lumas((noisy(i) for i in range(300)), settings=replace(SETTINGS, denoise=1.0))
    means = np.array([picture.mean() for picture in out[20:]])
    assert abs(means[-20:].mean() - means[:20].mean()) < 0.25
    assert np.abs(np.diff(means)).max() < 0.5


@pytest.mark.parametrize("half", [3, 5, 7])
def test_halves_equal_the_whole(half):
    frames = [scene(i, speed=1.0) for i in range(12)]
    whole, _ = lumas([scene(i, speed=1.0) for i in range(12)])
    one = build_enhancer(Lifting(), mode="guided", settings=SETTINGS)
    state = one.new_state()
    for item in frames[:half]:
        one([item], [state])
    saved = one.snapshot(state)
    one([scene(90)], [state])  # the snapshot is a copy
    two = build_enhancer(Lifting(), mode="guided", settings=SETTINGS)
    state = two.restore(saved)
    for i in range(half, 12):
        np.testing.assert_array_equal(two([frames[i]], [state])[0].planes[0], whole[i])
    one.close()
    two.close()


def test_the_state_stays_bounded():
    enhancer = build_enhancer(Lifting(), mode="guided", settings=SETTINGS)
    state = enhancer.new_state()
    sizes = []
    for i in range(12):
        enhancer([scene(i)], [state])
        sizes.append(sum(array.nbytes for array in enhancer.snapshot(state).values()))
    enhancer.close()
    assert sizes[6] == sizes[-1]  # two key frames have been, then three


def test_without_key_frames_nothing_is_kept_for_them():
    enhancer = build_enhancer(Lifting(), mode="guided", settings=SETTINGS)
    every = enhancer.adjusted(replace(SETTINGS, keyframe_interval=1))
    state = enhancer.new_state()
    enhancer([scene(0)], [state])
    every([scene(1)], [state])
    enhancer.close()
    assert not state.key
    assert state.key_moment is None


class TestCurve:
    def test_a_curve_is_found_and_its_ends_go_on(self):
        dark = (
            torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
            * torch.tensor([0.2, 0.1, 0.1])[:, None, None]
        )
        bright = torch.stack([dark[0].sqrt(), 2.0 * dark[1], -dark[2]])
        found = apply_curve(fit_curve(dark, bright), dark)
        assert (found - bright).abs().mean() < 0.01
        beyond = torch.zeros(3, 1, 2)
        beyond[0] = torch.tensor([[0.3, 0.9]])
        luma = apply_curve(fit_curve(dark, bright), beyond)[0, 0]
        assert 0.45 < luma[0] < luma[1] <= 1.0

    def test_flat_and_tiny_pictures_have_one_too(self):
        for size in ((1, 1), (2, 3)):
            dark = torch.full((3, *size), 0.1)
            found = apply_curve(fit_curve(dark, 3 * dark), dark)
            torch.testing.assert_close(found[0], 3 * dark[0], atol=1e-4, rtol=0)


class TestAsync:
    settings = replace(SETTINGS, keyframe_async=True, keyframe_interval=2)

    def test_frames_go_on_while_the_model_works(self):
        model = Lifting()
        enhancer = build_enhancer(model, mode="guided", settings=self.settings)
        state = enhancer.new_state()
        enhancer([scene(0)], [state])
        model.go.clear()
        for i in range(1, 8):
            (result,) = enhancer([scene(i)], [state])
        assert result.planes[0].mean() > 40
        assert int(state.key["age"]) == 0
        model.go.set()
        enhancer.snapshot(state)
        enhancer.close()
        assert 2 <= int(state.key["age"]) <= 7
        assert model.calls == 2

    def test_a_snapshot_waits_and_goes_on(self):
        model = Lifting()
        enhancer = build_enhancer(model, mode="guided", settings=self.settings)
        state = enhancer.new_state()
        for i in range(4):
            enhancer([scene(i)], [state])
        restored = enhancer.restore(enhancer.snapshot(state))
        assert int(restored.key["age"]) == int(state.key["age"]) > 0
        enhancer.close()

    def test_what_was_decided_before_a_cut_is_not_used_behind_it(self):
        model = Lifting()
        enhancer = build_enhancer(model, mode="guided", settings=self.settings)
        state = enhancer.new_state()
        enhancer([scene(0)], [state])
        model.go.clear()
        for i in range(1, 4):
            enhancer([scene(i)], [state])  # one is under way
        threading.Timer(0.2, model.go.set).start()
        (result,) = enhancer([scene(4, seed=2, light=3.0)], [state])
        (alone,), _ = lumas([scene(4, seed=2, light=3.0)], settings=self.settings)
        enhancer.close()
        assert state.age == 1
        np.testing.assert_array_equal(result.planes[0], alone)

    def test_errors_are_raised_once(self):
        model = Lifting()
        enhancer = build_enhancer(model, mode="guided", settings=self.settings)
        state = enhancer.new_state()
        enhancer([scene(0)], [state])
        model.error = ModelError("broken")
        for i in range(1, 3):
            enhancer([scene(i)], [state])
        with pytest.raises(ModelError, match="broken"):
            enhancer.snapshot(state)
        model.error = None
        (result,) = enhancer([scene(3)], [state])
        enhancer.close()
        assert result.planes[0].mean() > 40

    def test_only_the_newest_frame_waits(self):
        worker: KeyWorker[int] = KeyWorker()
        go, begun = threading.Event(), threading.Event()
        first, second = StreamState(), StreamState()

        def hold() -> int:
            begun.set()
            go.wait(20)
            return 1

        assert worker.submit(first, hold)
        assert begun.wait(20)
        assert not worker.submit(first, lambda: 2)
        assert worker.submit(second, lambda: 3)
        assert worker.submit(second, lambda: 4)
        assert worker.take(first, wait=False) is None
        go.set()
        assert (worker.take(first, wait=True), worker.take(second, wait=True)) == (1, 4)
        assert worker.take(second, wait=True) is None
        worker.close()
        worker.close()


class TestAuto:
    def test_the_size_chooses(self):
        model = Lifting()
        settings = replace(SETTINGS, direct_limit=SIZE[0] * SIZE[1], keyframe_interval=1)
        enhancer = build_enhancer(model, settings=settings)
        small, large = scene(0), scene(0)
        large.planes = tuple(np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in large.planes)
        wanted = []
        for mode, item in (("direct", small), ("guided", large)):
            other = build_enhancer(model, mode=mode, settings=settings)
            copy = replace(item, planes=item.planes)
            wanted.append(other([copy], [other.new_state()])[0].planes[0])
            other.close()
        state = enhancer.new_state()
        (result,) = enhancer([small], [state])
        np.testing.assert_array_equal(result.planes[0], wanted[0])
        large.pts = 1
        (result,) = enhancer([large], [state])
        np.testing.assert_array_equal(result.planes[0], wanted[1])
        assert state.age == 1
        enhancer.close()

    def test_the_limit_belongs_to_the_identity(self):
        one, two = (build_enhancer(Lifting(), settings=replace(SETTINGS, direct_limit=n)) for n in (0, 10))
        assert one.identity != two.identity
        assert one.adjusted(two.settings).identity == two.identity
        one.close()
        two.close()
