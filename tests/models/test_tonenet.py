"""tonenet: what its tone does, what its denoiser leaves alone, and its weights file."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from streamlight.errors import ConfigError, ModelError
from streamlight.models import load
from streamlight.models.registry import packaged_weights
from streamlight.models.tonenet import Tonenet, TonenetConfig, TonenetNetwork
from streamlight.models.tonenet.network import deduce
from streamlight.models.tonenet.tone import KNOTS, LATENT, apply_tone, black_gain, coordinate
from streamlight.models.weights import write_safetensors

CODE = 1.0 / 219.0


def latent(*, gain: float = 4.0, curve: float = 0.0, saturation: float = 0.0) -> Tensor:
    values = torch.zeros(1, LATENT)
    values[:, 0] = torch.tensor(gain).log()
    values[:, 1 : 1 + KNOTS] = curve
    values[:, 1 + KNOTS : -2] = saturation
    return values


def picture(height: int = 40, width: int = 56, *, level: float = 0.05, seed: int = 0) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 7, generator=numbers), (height, width), mode="bicubic")
    low = smooth.clamp(0.0, 1.0) * level
    low[:, 1:] -= level / 2
    return low


@pytest.fixture(scope="module")
def random_network() -> TonenetNetwork:
    torch.manual_seed(3)
    return TonenetNetwork().eval()


@pytest.fixture(scope="module")
def shipped() -> Tonenet:
    model = load("tonenet")
    assert isinstance(model, Tonenet)
    return model


def test_black_gain_undoes_an_exposure_and_is_bounded() -> None:
    scene = picture(level=0.8)[:, :1].abs()
    darker = black_gain(scene * 0.2) / black_gain(scene)
    assert 4.0 < float(darker) < 12.0
    assert float(black_gain(torch.ones(1, 1, 8, 8))) == 1.0
    assert 30.0 < float(black_gain(torch.zeros(1, 1, 8, 8))) < 40.0


@pytest.mark.parametrize("gain", [1.0, 1.5, 8.0, 35.0])
def test_the_curve_in_closed_form(gain: float) -> None:
    luma = torch.tensor([0.0, 1e-5, 0.5, 1.0]).view(1, 1, 1, 4)
    z = coordinate(luma, torch.tensor([gain]))[0, 0, 0]
    assert float(z[0]) == 0.0
    assert float(z[1]) / 1e-5 == pytest.approx(gain, rel=0.01)
    assert float(z[3]) == pytest.approx(1.0, abs=1e-3)
    assert 0.5 - 1e-3 <= float(z[2]) < 1.0


def test_the_coordinate_spreads_dark_pictures_over_the_curve() -> None:
    luma = torch.linspace(0, 0.1, 32).view(1, 1, 4, 8)
    z = coordinate(luma, black_gain(luma))
    assert float(z.max() - z.min()) > 0.4


def test_gain_of_luma_and_chroma() -> None:
    low = torch.tensor([0.02, 0.01, -0.02]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    bright, gain = apply_tone(latent(gain=4.0, curve=0.2), low)
    z = float(coordinate(low[:, :1], torch.tensor([4.0]))[0, 0, 0, 0])
    assert bright[0, 0, 0, 0].item() == pytest.approx(z * math.exp(0.2), rel=1e-4)
    assert gain[0, 0, 0, 0].item() == pytest.approx(bright[0, 0, 0, 0].item() / 0.02, rel=0.05)
    assert bright[0, 1, 0, 0] / bright[0, 2, 0, 0] == pytest.approx(-0.5, abs=0.02)
    more, _ = apply_tone(latent(gain=4.0, curve=0.2, saturation=0.3), low)
    assert more[0, 2, 0, 0].abs() > 1.2 * bright[0, 2, 0, 0].abs()


def test_chroma_of_a_code_in_near_black_is_not_believed() -> None:
    tint = torch.tensor([0.01, 1.0 / 224.0, 1.0 / 224.0]).view(1, 3, 1, 1)
    colour = torch.tensor([0.01, 8.0 / 224.0, 8.0 / 224.0]).view(1, 3, 1, 1)
    tone = latent(gain=20.0)
    believed = [float(apply_tone(tone, low)[0][0, 1] / low[0, 1]) for low in (tint, colour)]
    assert believed[0] < 0.25 * believed[1]
    grainy = float(apply_tone(tone, tint, noise=torch.tensor([0.6 * CODE]))[0][0, 1] / tint[0, 1])
    assert grainy > 1.5 * believed[0]


def test_nothing_gets_darker_and_white_stays_white() -> None:
    low = torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(1, 3, 1, 1)
    low[:, 1:] = 0.0
    bright, _ = apply_tone(latent(gain=2.0, curve=-2.0), low)
    assert bool((bright[:, 0] >= low[:, 0] - 1e-6).all())
    assert bright[0, 0].max() <= 1.0


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_strength_is_an_exponent_of_the_gain(strength: float) -> None:
    low = torch.tensor([0.1, 0.0, 0.0]).view(1, 3, 1, 1)
    bright, _ = apply_tone(latent(gain=4.0), low, strength=strength)
    full, _ = apply_tone(latent(gain=4.0), low)
    ratio = full[0, 0, 0, 0].item() / 0.1
    assert bright[0, 0, 0, 0].item() == pytest.approx(0.1 * ratio**strength, rel=0.02)
    if strength == 0.0:
        assert torch.allclose(bright, low, atol=1e-6)


def test_two_pictures_of_a_batch_do_not_touch(random_network: TonenetNetwork) -> None:
    model = Tonenet(random_network)
    first, second = picture(seed=1), picture(seed=2, level=0.2)
    both = model.condition(torch.cat([first, second]), noise=torch.tensor([0.001, 0.002]))
    together = model.decode(model.prior(both).mean, both)
    one = model.condition(second, noise=torch.tensor([0.002]))
    assert torch.allclose(together[1:], model.decode(model.prior(one).mean, one), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (33, 70), (136, 240)])
def test_any_size(random_network: TonenetNetwork, size: tuple[int, int]) -> None:
    model = Tonenet(random_network)
    condition = model.condition(picture(*size), noise=torch.tensor([0.002]))
    bright = model.decode(model.prior(condition).mean, condition)
    assert bright.shape == (1, 3, *size)
    assert bool(torch.isfinite(bright).all())


def test_without_noise_the_denoiser_changes_nothing(random_network: TonenetNetwork) -> None:
    low = picture()
    model, plain = Tonenet(random_network), Tonenet(random_network, denoiser=False)
    silent = model.condition(low, noise=torch.zeros(1))
    chosen = model.prior(silent).mean
    assert torch.equal(model.decode(chosen, silent), plain.decode(chosen, silent))
    noisy = model.condition(low, noise=torch.full((1,), CODE))
    assert not torch.equal(model.decode(chosen, noisy), plain.decode(chosen, noisy))


def test_no_layer_is_born_dead(random_network: TonenetNetwork) -> None:
    alive: list[float] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: alive.append(float((out > 0).float().mean())))
        for module in random_network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    model = Tonenet(random_network)
    condition = model.condition(picture(), noise=torch.tensor([0.002]))
    model.decode(model.prior(condition).mean, condition)
    for hook in hooks:
        hook.remove()
    assert len(alive) == 17
    assert min(alive) > 0.1


def test_hyper_parameters_are_read_off_the_tensors(tmp_path) -> None:
    config = TonenetConfig(stages=(4, 6, 8, 12), hidden=20, widths=(8, 12, 16))
    network = TonenetNetwork(config)
    assert deduce(network.state_dict()) == config
    file = tmp_path / "mine.safetensors"
    write_safetensors(file, network.state_dict())
    model = load(file, look="day")
    assert model.card.parameters == sum(p.numel() for p in network.parameters())
    assert model.card.revision != load(file).card.revision


def test_a_wrong_look_is_refused(random_network: TonenetNetwork) -> None:
    with pytest.raises(ConfigError, match="look must be one of night, day, got 'dusk'"):
        Tonenet(random_network, look="dusk")  # type: ignore[arg-type]


def test_a_file_with_a_stage_missing_is_refused() -> None:
    tensors = TonenetNetwork().state_dict()
    del tensors["tone.stages.2.weight"]
    with pytest.raises(ModelError, match="four tensors"):
        deduce(tensors)


def test_the_shipped_file_is_small_and_says_whose_it_is(shipped: Tonenet) -> None:
    file = packaged_weights("tonenet")
    assert file is not None
    assert file.stat().st_size < 1_000_000
    assert shipped.card.licence == "Apache-2.0"
    assert "photographs" in shipped.card.training_data


@pytest.mark.parametrize("exposure", [0.05, 0.15, 0.4])
def test_the_shipped_model_brightens_the_dark_and_day_more_than_night(shipped: Tonenet, exposure: float) -> None:
    low = picture(96, 144, level=exposure)
    means = {}
    for look in ("night", "day"):
        model = Tonenet(shipped.network, look=look)  # type: ignore[arg-type]
        condition = model.condition(low, noise=torch.tensor([0.2 * CODE]))
        means[look] = float(model.decode(model.prior(condition).mean, condition)[:, 0].mean())
    assert low[:, 0].mean() * 1.3 < means["night"] < means["day"] < 0.7


def test_the_shipped_model_leaves_day_alone(shipped: Tonenet) -> None:
    low = picture(96, 144, level=0.95)
    low[:, 1:] *= 0.2
    condition = shipped.condition(low, noise=torch.tensor([0.1 * CODE]))
    bright = shipped.decode(shipped.prior(condition).mean, condition)
    assert float((bright[:, 0] - low[:, 0]).abs().mean()) < 0.05


def test_the_shipped_model_removes_noise_and_keeps_edges(shipped: Tonenet) -> None:
    clean = torch.zeros(1, 3, 128, 192)
    clean[:, 0] = 0.06
    clean[:, 0, :, 96:] = 0.12
    numbers = torch.Generator().manual_seed(1)
    sigma = 1.2 * CODE
    low = clean + sigma * torch.randn(clean.shape, generator=numbers)
    condition = shipped.condition(low, noise=torch.tensor([sigma]))
    chosen = shipped.prior(condition).mean
    toned = Tonenet(shipped.network, denoiser=False).decode(chosen, condition)
    wanted, gain = apply_tone(chosen, clean, noise=condition.features["noise"])
    with torch.no_grad():
        whole = shipped.network.denoiser(toned, low, gain, condition.features["noise"])
    denoised = shipped.decode(chosen, condition)
    for channels in (slice(0, 1), slice(1, 3)):
        before, after, way = ((image - wanted)[:, channels].std() for image in (toned, whole, denoised))
        assert after < 0.5 * before
        assert way < 0.8 * before
    step = denoised[0, 0, :, 100:110].mean() - denoised[0, 0, :, 82:92].mean()
    assert float(step) > 0.9 * float(wanted[0, 0, 0, 150] - wanted[0, 0, 0, 20])


def test_loading_brings_no_compiler_along() -> None:
    """Seventy megabytes of it, for drawing random numbers that nobody looks at."""
    code = (
        "import sys, streamlight; before = 'sympy' in sys.modules; streamlight.load('tonenet');"
        "assert before or 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
