"""Motion between dark, noisy frames, against shifts that are known; and warping, to the bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from streamlight.temporal import CODE, Motion, estimate_motion, warp
from streamlight.temporal import motion as module


@pytest.fixture(params=["dense inverse search", "torch"], autouse=True)
def search(request, monkeypatch):
    """Both searches must pass: the one of the CPU, and the one that runs on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(module, "_search_cpu", module._search_torch)
    return request.param


def scene(dx: int = 0, dy: int = 0, *, noise: float = 0.0, seed: int = 0) -> torch.Tensor:
    """A dark texture (mean about 11 codes of 8 bit) seen through a window at (dx, dy)."""
    texture = torch.rand(1, 1, 24, 36, generator=torch.Generator().manual_seed(99))
    texture = F.interpolate(texture, (240, 360), mode="bicubic")[0, 0] * 0.06 + 0.02
    view = texture[40 + dy : 200 + dy, 40 + dx : 280 + dx]
    return view + noise * torch.randn(view.shape, generator=torch.Generator().manual_seed(seed))


def off(motion: Motion, x: float, y: float) -> torch.Tensor:
    return (motion.flow - torch.tensor([x, y])[:, None, None]).norm(dim=0)


class TestEstimate:
    @pytest.mark.parametrize("codes", [0.1, 1.0, 4.0])
    def test_noise_is_not_motion(self, codes):
        motion = estimate_motion(scene(noise=codes * CODE, seed=1), scene(noise=codes * CODE, seed=2), codes * CODE)
        assert motion.still
        assert not motion.flow.any()
        assert bool((motion.confidence == 1).all())

    @pytest.mark.parametrize("codes", [1.0, 2.0])
    def test_nor_where_the_noise_is_thought_smaller(self, codes):
        motion = estimate_motion(scene(noise=codes * CODE, seed=1), scene(noise=codes * CODE, seed=2), 0.3 * CODE)
        assert float((motion.flow.norm(dim=0) > 0.5).float().mean()) < 0.02
        assert float(motion.confidence.mean()) > 0.98

    def test_a_smaller_stream_beside_changes_nothing(self):
        def found() -> torch.Tensor:
            return estimate_motion(scene(3, -2, noise=CODE, seed=1), scene(noise=CODE), CODE).flow

        first = found()
        small = torch.rand(2, 16, 20, generator=torch.Generator().manual_seed(0))
        estimate_motion(small[0], small[1], 0.1 * CODE)
        assert found().equal(first)

    @pytest.mark.parametrize(("codes", "share"), [(0.2, 0.9), (1.0, 0.7)])
    @pytest.mark.parametrize(("dx", "dy"), [(3, -2), (-8, 5)])
    def test_a_pan_is_found(self, codes, share, dx, dy):
        motion = estimate_motion(scene(dx, dy, noise=codes * CODE, seed=1), scene(noise=codes * CODE), codes * CODE)
        inner = (slice(16, -16), slice(16, -16))
        assert not motion.still
        assert float((off(motion, dx, dy)[inner] < 0.5).float().mean()) > share
        assert float(motion.confidence[inner].mean()) > 0.9

    def test_dark_flat_places_go_with_the_camera(self):
        frames = []
        for x in (0, 3):
            picture = scene(x, 0, noise=CODE, seed=x)
            picture[50:110, 80:160] = picture[50:110, 80:160] * 0.05 + 0.02
            frames.append(picture)
        motion = estimate_motion(frames[1], frames[0], CODE)
        assert float((off(motion, 3, 0)[70:90, 110:130] < 0.5).float().mean()) > 0.9

    def test_what_comes_in_at_the_border_was_nowhere(self):
        motion = estimate_motion(scene(8, 0), scene(), 0.1 * CODE)
        assert float(motion.confidence[:, -4:].mean()) < 0.3
        assert float(motion.confidence[:, 16:-16].mean()) > 0.9

    def test_a_moving_square_and_what_it_uncovers(self, search):
        frames = []
        for x in (100, 108):
            picture = scene(noise=0.5 * CODE, seed=x)
            picture[60:100, x : x + 40] = 2.5 * scene(60, 20)[60:100, :40]
            frames.append(picture)
        motion = estimate_motion(frames[1], frames[0], 0.5 * CODE)
        assert float((off(motion, -8, 0)[70:90, 118:138] < 1.0).float().mean()) > 0.7
        # Lucas-Kanade spreads the motion of the square over what is next to it.
        assert float(motion.confidence[70:90, 101:106].mean()) < (0.8 if search == "torch" else 0.4)
        assert float(motion.flow[:, 130:].abs().mean()) < 0.05
        assert float(motion.confidence[130:].mean()) > 0.95

    def test_lamps_are_no_motion(self):
        after = scene(noise=0.5 * CODE, seed=1) * 1.6
        motion = estimate_motion(after, scene(noise=0.5 * CODE, seed=2), 0.5 * CODE)
        assert float((motion.flow.norm(dim=0) > 0.5).float().mean()) < 0.1

    def test_larger_pictures_are_searched_small(self):
        new, old = (F.interpolate(s[None, None], scale_factor=3, mode="bilinear")[0, 0] for s in (scene(4, 2), scene()))
        motion = estimate_motion(new, old, 0.2 * CODE)
        assert motion.flow.shape == (2, 120, 180)
        full = motion.resized(480, 720)
        assert float((off(full, 12, 6)[60:-60, 60:-60] < 1.5).float().mean()) > 0.9

    @pytest.mark.parametrize("size", [(1, 1), (3, 40), (15, 15), (33, 17)])
    def test_any_size_and_any_value(self, size):
        generator = torch.Generator().manual_seed(0)
        for values in (torch.zeros(size), torch.ones(size), torch.rand(size, generator=generator) - 0.5):
            motion = estimate_motion(values, torch.rand(size, generator=generator), 1.0 * CODE)
            assert bool(motion.flow.isfinite().all())
            assert bool(((motion.confidence >= 0) & (motion.confidence <= 1)).all())


class TestWarp:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_exact_on_whole_shifts(self, dtype):
        image = torch.randn(1, 5, 20, 30, generator=torch.Generator().manual_seed(0)).to(dtype)
        flow = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 20, 30)
        assert warp(image, flow)[..., 2:, :-3].equal(image[..., :-2, 3:])
        assert warp(image, torch.zeros(2, 7, 9)).equal(image)

    def test_halves_are_means_and_the_border_is_repeated(self):
        ramp = torch.arange(6.0).repeat(1, 4, 1)
        flow = torch.zeros(2, 4, 6)
        flow[0] = 0.5
        assert warp(ramp, flow)[0, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.0]

    def test_flow_is_scaled_to_the_latent(self):
        latent = torch.randn(1, 3, 10, 20)
        flow = torch.tensor([16.0, 8.0])[:, None, None].expand(2, 80, 160)
        assert warp(latent, flow)[..., :-1, :-2].equal(latent[..., 1:, 2:])

    def test_nearest_mixes_nothing(self):
        codes = torch.randint(0, 1000, (1, 8, 9))
        carried = warp(codes, 3 * torch.randn(2, 8, 9), nearest=True)
        assert carried.dtype == codes.dtype
        assert set(carried.flatten().tolist()) <= set(codes.flatten().tolist())

    def test_two_motions_are_one(self):
        step = Motion(torch.full((2, 12, 12), 1.5), torch.full((12, 12), 0.5))
        both = step.after(step)
        assert bool((both.flow == 3.0).all())
        assert bool((both.confidence == 0.25).all())
        assert step.after(Motion.none(12, 12)) is step
        assert Motion.none(12, 12).after(step) is step
