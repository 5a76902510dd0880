"""LLDiffusion beyond its golden data: any size, tiles, warm starts, randomness, precision, training, bad input."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lldiffusion_states import GOLDEN, golden_state
from safetensors.torch import load_file
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.models.lldiffusion import (
    ARCHITECTURE,
    LLDiffusion,
    Sampling,
    antithetic_times,
    image_loss,
    training_losses,
)
from streamlight.models.lldiffusion import sampling as sampling_module
from streamlight.models.lldiffusion.diffusion import ddim, diffuse, time_steps
from streamlight.models.lldiffusion.encoder import SpectralConv2d
from streamlight.models.lldiffusion.preprocess import color_map, padded_sizes
from streamlight.models.lldiffusion.sampling import blend_window, tile_corners
from streamlight.models.nn.padding import reflect_to
from streamlight.models.nn.timestep import timestep_embedding
from streamlight.models.protocol import Condition, GenerativeModel
from streamlight.models.weights import Weights, strip_prefixes


def build(name: str = "lol_tiny", **keywords: Any) -> LLDiffusion:
    return ARCHITECTURE.build(Weights(name, strip_prefixes(golden_state(name), name)), **{"steps": 2, **keywords})  # type: ignore[return-value]


@cache
def model(name: str = "lol_tiny", **keywords: Any) -> LLDiffusion:
    return build(name, **keywords)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dark(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=seeded(seed)) * 0.2


def latent_of(condition: Condition, seed: int = 2) -> Tensor:
    return torch.randn(condition.features["y"].shape, generator=seeded(seed)).to(condition.features["y"])


def bright(network: LLDiffusion, low: Tensor, **arguments: Any) -> Tensor:
    condition = network.condition(low)
    return network.decode(latent_of(condition), condition, **arguments)


def golden_picture() -> Tensor:
    return load_file(GOLDEN / "lol_tiny_io.safetensors")["low_u8"][None].float() / 255


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (64, 64), (65, 33), (50, 130)])
@pytest.mark.parametrize("name", ["lol_tiny", "v2_tiny"])
def test_any_size_is_padded_and_cropped_exactly(name: str, size: tuple[int, int]) -> None:
    network, low = model(name), dark(1, 3, *size)
    got = bright(network, low)
    assert got.shape == low.shape
    assert got.isfinite().all()
    height, width = (max(64, -(-side // 32) * 32) for side in size)
    padded = reflect_to(low, height, width)
    assert network.condition(low).features["y"].shape[-2:] == (height, width)
    assert torch.equal(got, bright(network, padded)[..., : size[0], : size[1]])


@pytest.mark.parametrize(
    ("size", "least", "official"),
    [
        ((400, 600), (416, 608), (416, 640)),
        ((720, 1280), (736, 1280), (736, 1312)),
        ((1080, 1920), (1088, 1920), (1120, 1952)),  # larger than 1024: nothing is cut off
        ((64, 64), (64, 64), (96, 96)),
        ((1, 1), (64, 64), (64, 64)),
    ],
)
def test_inner_sizes(size: tuple[int, int], least: tuple[int, int], official: tuple[int, int]) -> None:
    assert padded_sizes(*size, padding="least", tile=None, whole=True)[-1] == least
    assert padded_sizes(*size, padding="official", tile=None, whole=True)[-1] == official


def test_reflection_equals_torch_where_torch_can() -> None:
    image = torch.rand(2, 3, 7, 9)
    assert torch.equal(reflect_to(image, 13, 17), F.pad(image, (0, 8, 0, 6), mode="reflect"))
    row = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert reflect_to(row, 1, 9).flatten().tolist() == [1, 2, 3, 2, 1, 2, 3, 2, 1]
    assert reflect_to(row, 3, 3)[0, 0].tolist() == [[1, 2, 3]] * 3
    assert reflect_to(row, 1, 3) is row


def test_a_batch_equals_its_frames() -> None:
    network, low = model(), dark(3, 3, 64, 64)
    condition = network.condition(low)
    latent = latent_of(condition)
    together = network.decode(latent, condition)
    for index in range(3):
        alone = network.decode(latent[index : index + 1], network.condition(low[index : index + 1]))
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)


# --- protocol -------------------------------------------------------------------------------------------------------


def test_it_is_a_generative_model() -> None:
    network = model()
    assert isinstance(network, GenerativeModel)
    assert network.card.color == "rgb"
    assert network.card.stochastic
    prior = network.prior(network.condition(dark(2, 3, 40, 70)))
    assert prior.mean.shape == (2, 3, 64, 96)
    assert not prior.mean.any()
    assert prior.std == 1.0


def test_strength_blends_with_the_dark_picture() -> None:
    network, low = model(), dark(1, 3, 64, 64)
    full, half = bright(network, low), bright(network, low, strength=0.5)
    assert torch.equal(bright(network, low, strength=0.0), low)
    torch.testing.assert_close(half, (low + full) / 2, atol=1e-6, rtol=0)
    assert (full - low).abs().mean() > 0.02


def test_the_encoder_runs_once_per_frame() -> None:
    network = build(steps=4)
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    bright(network, dark(1, 3, 64, 64))
    assert len(calls) == 1


def test_samples_share_a_condition_and_follow_the_generator() -> None:
    network, low = model(), dark(2, 3, 33, 64)
    two = network.sample(low, samples=2, generator=seeded())
    assert two.shape == (2, 2, 3, 33, 64)
    assert torch.equal(two, network.sample(low, samples=2, generator=seeded()))
    assert not torch.equal(two[0], two[1])
    assert not torch.equal(two[0], network.sample(low, generator=seeded(9))[0])
    generator = seeded()
    condition = network.condition(low)
    noise = torch.randn(condition.features["y"].shape, generator=generator)
    assert torch.equal(two[0], network.decode(noise, condition))
    single = network.condition(low[:1])
    shared = network.decode(torch.cat([noise[:1], noise[1:]]), single)
    torch.testing.assert_close(shared[:1], network.decode(noise[:1], single), atol=2e-5, rtol=0)
    assert shared.shape == (2, 3, 33, 64)


def test_mean_latent_needs_no_generator() -> None:
    network, low = model(), dark(1, 3, 64, 64)
    condition = network.condition(low)
    assert torch.equal(
        network.sample(low, temperature=0.0)[0], network.decode(network.prior(condition).mean, condition)
    )
    with pytest.raises(ConfigError, match="generator"):
        network.sample(low)


# --- the sampler ----------------------------------------------------------------------------------------------------


def test_time_steps_from_a_start() -> None:
    assert time_steps(4, t_start=300) == [300, 200, 100, 0]
    assert time_steps(1, t_start=300) == [300]
    assert time_steps(3, t_start=2) == [2, 1, 0]
    for start in (5, 250, 999):
        times = time_steps(6, t_start=start)
        assert len(set(times)) == 6
        assert (times[0], times[-1]) == (start, 0)
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and 1000, got 0"),
        ({"steps": 1001}, "steps"),
        ({"steps": 4, "t_start": 1000}, "t_start must be between 0 and 999, got 1000"),
        ({"steps": 4, "t_start": 2}, "at most t_start"),
    ],
)
def test_time_steps_out_of_range(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        time_steps(**arguments)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 25, 30])
def test_a_perfect_network_gives_the_picture_back(steps: int, eta: float) -> None:
    """Whatever noise is added on the way, the exact noise prediction leads to x₀."""
    x0 = torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2 - 1

    def predict(x: Tensor, t: int) -> Tensor:
        one = torch.ones_like(x)
        signal, spread = diffuse(one, t, 0 * one), diffuse(0 * one, t, one)
        return (x - signal * x0) / spread

    start = torch.randn(x0.shape, dtype=torch.float64, generator=seeded())
    *_, end = ddim(predict, start, times=time_steps(steps), eta=eta, generator=seeded(1))
    torch.testing.assert_close(end, x0, atol=2e-4, rtol=0)  # the schedule is float32, as published


def test_noise_of_the_steps_keeps_the_variance() -> None:
    """With eta 1 and a network that predicts the state itself, states stay as spread as the schedule says."""
    start = torch.randn(1, 3, 128, 128, generator=seeded())
    times = time_steps(10)
    states = list(ddim(lambda x, t: x, start, times=times, eta=1.0, generator=seeded(1)))
    silent = list(ddim(lambda x, t: x, start, times=times, eta=1.0, noise=[torch.zeros_like(start)] * 10))
    added = states[0] - silent[0]
    a, b = (float(diffuse(torch.ones(1, 1, 1, 1), t, torch.zeros(1, 1, 1, 1))) ** 2 for t in times[:2])
    assert float(added.std()) == pytest.approx(((1 - a / b) * (1 - b) / (1 - a)) ** 0.5, rel=0.02)


def test_eta_takes_its_noise_from_the_caller() -> None:
    network, low = model(), dark(1, 3, 64, 64)
    condition = network.condition(low)
    latent = latent_of(condition)
    plain = network.decode(latent, condition)
    drawn = network.decode(latent, condition, eta=1.0, generator=seeded(5))
    given = [torch.randn(latent.shape, generator=generator) for generator in [seeded(5)] for _ in range(2)]
    assert torch.equal(drawn, network.decode(latent, condition, eta=1.0, step_noise=given))
    assert not torch.equal(drawn, plain)
    silent = network.decode(latent, condition, eta=1.0)
    assert torch.equal(silent, network.decode(latent, condition, eta=1.0))
    assert torch.equal(silent, network.decode(latent, condition, eta=1.0, generator=seeded(0)))
    with pytest.raises(ConfigError, match="2 steps need as many"):
        network.decode(latent, condition, eta=1.0, step_noise=given[:1])


def test_warm_start_stays_near_where_it_starts() -> None:
    network, low = model(), dark(1, 3, 50, 64)
    start = torch.rand(1, 3, 50, 64, generator=seeded(8))
    condition = network.condition(low)
    latent = latent_of(condition)
    away = [
        float((network.decode(latent, condition, x_init=start, t_start=t, steps=1) - start).abs().mean())
        for t in (0, 100, 400)
    ]
    assert away[0] < 0.02
    assert away[0] < away[1] < away[2]
    whole = 2 * reflect_to(start, 64, 64) - 1
    noised = network.trajectory(diffuse(whole, 100, latent), condition, t_start=100, steps=1)
    (state,) = network.trajectory(latent, condition, x_init=start, t_start=100, steps=1)
    assert torch.equal(next(noised), state)


def test_settings_of_a_call_do_not_stay() -> None:
    network, low = model(), dark(1, 3, 64, 64)
    condition = network.condition(low)
    latent = latent_of(condition)
    assert len(list(network.trajectory(latent, condition, steps=5))) == 5
    assert len(list(network.trajectory(latent, condition))) == 2


# --- tiles ----------------------------------------------------------------------------------------------------------


def test_corners_reach_the_border() -> None:
    assert tile_corners(64, 96, tile=64, stride=16) == [(0, 0), (0, 16), (0, 32)]
    assert tile_corners(65, 64, tile=64, stride=64) == [(0, 0), (1, 0)]
    assert len(tile_corners(400, 608, tile=128, stride=16)) == 558  # published
    covered = torch.zeros(130, 77)
    for y, x in tile_corners(130, 77, tile=64, stride=50):
        part = covered[y : y + 64, x : x + 64]
        assert part.shape == (64, 64)
        part += 1
    assert covered.min() >= 1


def test_smooth_windows_add_up() -> None:
    window = blend_window(64, "smooth")
    assert window.min() > 0
    half = window[:32] + window[32:]
    torch.testing.assert_close(half, half[:1].expand_as(half))
    assert torch.equal(blend_window(64, "box"), torch.ones(64, 64))


@pytest.mark.parametrize("statistics", ["tile", "frame"])
@pytest.mark.parametrize("blend", ["smooth", "box"])
def test_one_tile_is_the_whole_frame(statistics: str, blend: str) -> None:
    low = dark(2, 3, 64, 64)
    tiled = bright(model(tile=64, statistics=statistics, blend=blend), low)
    torch.testing.assert_close(tiled, bright(model(), low), atol=2e-5, rtol=0)


@pytest.mark.parametrize("statistics", ["tile", "frame"])
def test_tiles_cover_frames_of_any_size(statistics: str) -> None:
    network = model(tile=64, stride=48, statistics=statistics)
    for size in ((70, 101), (3, 90), (1, 1)):
        got = bright(network, dark(1, 3, *size))
        assert got.shape[-2:] == size
        assert got.isfinite().all()


def test_tiles_by_hand() -> None:
    """Two overlapping tiles, averaged under their windows."""
    network = model(tile=64, stride=32, tile_batch=1)
    low = dark(1, 3, 64, 96)
    condition = network.condition(low)
    latent = latent_of(condition)
    times = torch.tensor([500])
    window = blend_window(64, "smooth")
    total, weight = torch.zeros(1, 3, 64, 96), torch.zeros(64, 96)
    with torch.no_grad():
        for left in (0, 32):
            y = condition.features["y"][..., left : left + 64]
            noise, _ = network(latent[..., left : left + 64], y, times)
            total[..., left : left + 64] += noise * window
            weight[:, left : left + 64] += window
        want = next(ddim(lambda x, t: total / weight, latent, times=[500, 0]))
        got = next(network.trajectory(latent, condition))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_tile_batches_and_cache_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    low = dark(2, 3, 64, 100)
    want = bright(model(tile=64, stride=16, tile_batch=1), low)
    torch.testing.assert_close(bright(model(tile=64, stride=16, tile_batch=3), low), want, atol=2e-5, rtol=0)
    network = build(tile=64, stride=16, tile_batch=3)
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    bright(network, low)
    assert len(calls) == 2  # four tiles in two batches, once for both steps
    monkeypatch.setattr(sampling_module, "_CACHE_BYTES", 0)
    torch.testing.assert_close(bright(network, low), want, atol=2e-5, rtol=0)
    assert len(calls) == 2 + 4


def test_frame_statistics_encode_the_frame_once() -> None:
    network = build(tile=64, stride=16, statistics="frame")
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    low = dark(1, 3, 64, 128)
    got = bright(network, low)
    assert len(calls) == 1
    assert (got - bright(model(tile=64, stride=16), low)).abs().max() > 1e-4  # and so sees something else


# --- precision ------------------------------------------------------------------------------------------------------


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).double().square().mean().log10())


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 46.0), ("float16", 63.0)])
@pytest.mark.parametrize("name", ["lol_tiny", "v2_tiny"])
def test_half_precision(name: str, dtype: str, least: float) -> None:
    low = golden_picture()
    network = model(name, steps=12, dtype=dtype)
    assert network.diff_unet.working_dtype == getattr(torch, dtype)
    assert all(item.dtype == torch.float32 for item in network.encoder.state_dict().values())
    got = bright(network, low)
    assert got.dtype == torch.float32
    assert psnr(got, bright(model(name, steps=12), low)) >= least


def test_single_against_double_precision() -> None:
    low = golden_picture()
    double = build(steps=4).double()
    assert (bright(double, low) - bright(model(steps=4), low)).abs().max() < 5e-4  # the tolerance of the golden data


# --- pieces ---------------------------------------------------------------------------------------------------------


def test_color_map_values() -> None:
    y = 2 * torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]).reshape(1, 3, 1, 3) - 1
    share = (color_map(y) + 1) / 2
    assert share[0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert share[0, :, 0, 1].tolist() == pytest.approx([0.5 / 1.5001] * 3)
    assert share[0, :, 0, 2].tolist() == pytest.approx([1 / 1.0001, 0, 0], abs=1e-7)


def test_timestep_embedding_values() -> None:
    embedding = timestep_embedding(torch.tensor([0, 7]), 9)
    assert embedding.shape == (2, 9)
    assert embedding[0].tolist() == [0] * 4 + [1] * 4 + [0]
    frequencies = [10000 ** (-i / 3) for i in range(4)]
    want = torch.tensor(frequencies, dtype=torch.float64) * 7
    torch.testing.assert_close(embedding[1, :4].double(), want.sin(), atol=1e-6, rtol=0)
    torch.testing.assert_close(embedding[1, 4:8].double(), want.cos(), atol=1e-6, rtol=0)


def test_spectral_norm_is_the_largest_singular_value() -> None:
    conv = SpectralConv2d(5, 7).train()
    for _ in range(300):
        conv.normalized_weight()
    weight = conv.normalized_weight().detach().flatten(1)
    assert float(torch.linalg.matrix_norm(weight, ord=2)) == pytest.approx(1.0, abs=1e-3)
    before = conv.weight_u.clone()
    conv.eval()(torch.rand(1, 5, 8, 8))
    assert torch.equal(conv.weight_u, before)


# --- training -------------------------------------------------------------------------------------------------------


def test_times_come_in_pairs() -> None:
    for count in (1, 2, 5, 8):
        times = antithetic_times(count, generator=seeded())
        assert times.shape == (count,)
        assert times.min() >= 0
        assert times.max() <= 999
    times = antithetic_times(8, generator=seeded())
    assert torch.equal(times[5:], 999 - times[:3])


def test_each_loss_trains_its_own_network() -> None:
    network = build().train()
    low, high = dark(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    vectors = network.encoder.encoder.layer1[0].weight_u.clone()
    second = network.encoder.encoder.layer2[0].weight_u.clone()
    losses = training_losses(
        network, low, high, t=torch.tensor([10, 900]), noise=torch.randn(high.shape), image_weight=0
    )
    losses.total.backward()
    assert losses.image == 0
    assert network.deg_unet is not None
    assert all(parameter.grad is None for parameter in network.deg_unet.parameters())
    assert all(parameter.grad is not None for parameter in network.encoder.parameters())
    assert all(parameter.grad is not None for parameter in network.diff_unet.parameters())
    assert torch.equal(network.encoder.encoder.layer1[0].weight_u, vectors)  # one output channel: u is ±1
    assert not torch.equal(network.encoder.encoder.layer2[0].weight_u, second)


def test_image_loss_is_of_pictures() -> None:
    assert float(image_loss(torch.full((1, 3, 2, 2), 5.0), torch.ones(1, 3, 2, 2))) == 0.0
    assert float(image_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), -0.5))) == pytest.approx(0.25)


def test_training_without_dgnet() -> None:
    network = build("v2_tiny").train()
    low = dark(1, 3, 64, 64)
    t, noise = torch.tensor([5]), torch.randn(low.shape)
    with pytest.raises(ModelError, match="DGNET"):
        training_losses(network, low, low, t=t, noise=noise)
    assert training_losses(network, low, low, t=t, noise=noise, image_weight=0.0).total.isfinite()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point"),
        (torch.zeros(1, 1, 8, 8), r"\(N, 3, H, W\)"),
        (torch.zeros(3, 8, 8), r"\(N, 3, H, W\)"),
        (torch.zeros(0, 3, 8, 8), "not empty"),
        ([torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 9, 8)], "one size"),
    ],
)
def test_pictures_that_are_none(low: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model().condition(low)


def test_latents_and_starts_that_do_not_fit() -> None:
    network, low = model(), dark(2, 3, 40, 64)
    condition = network.condition(low)
    latent = latent_of(condition)
    with pytest.raises(ModelError, match=r"latent must be \(2, 3, 64, 64\)"):
        network.decode(latent[..., :40, :], condition)
    with pytest.raises(ModelError, match="latent"):
        network.decode(latent[:1], condition)
    with pytest.raises(ConfigError, match="t_start"):
        network.decode(latent, condition, x_init=low)
    with pytest.raises(ModelError, match="x_init"):
        network.decode(latent, condition, x_init=latent, t_start=100)
    with pytest.raises(ConfigError, match="'tile'"):
        network.decode(latent, condition, tile=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"eta": 1.5}, "eta must be between 0 and 1, got 1.5"),
        ({"eta": float("nan")}, "eta"),
        ({"tile": 60}, "multiple of 32"),
        ({"tile": 32}, "at least 64"),
        ({"stride": 16}, "needs a tile size"),
        ({"tile": 64, "stride": 65}, "stride must be between 1 and the tile size 64"),
        ({"tile": 64, "stride": 0}, "stride"),
        ({"tile": 64, "stride": 20, "statistics": "frame"}, "multiple of 16"),
        ({"tile_batch": 0}, "tile_batch"),
        ({"blend": "hard"}, "'smooth' or 'box', got 'hard'"),
        ({"padding": "none"}, "padding"),
        ({"statistics": "all"}, "statistics"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_precisions_and_temperatures_that_are_none() -> None:
    with pytest.raises(ModelError, match="float64"):
        build(dtype="float64")
    with pytest.raises(ConfigError, match="temperature"):
        build(temperature=-1.0)
