"""The task tonenet: what it asks for, what learns from what, and the weights that leave it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models import load
from streamlight.models.tonenet import TonenetConfig
from streamlight.models.weights import write_safetensors
from streamlight.training.tasks import find_task
from streamlight.training.tasks.tonenet import TonenetOptions, TonenetTask, noise_of, to_rgb, to_ycbcr, transferred

TINY = TonenetConfig(stages=(4, 4, 4, 4), hidden=8, widths=(4, 4, 4))


def task(**options: object) -> TonenetTask:
    torch.manual_seed(0)
    wanted = TonenetOptions(network=TINY, patch=(16, 24), **options)  # type: ignore[arg-type]
    return TonenetTask.build(wanted, start=None, device="cpu")


def batch(height: int = 64, width: int = 96, count: int = 2) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, height // 8, width // 8, generator=numbers)
    target = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0.05, 0.95)
    clean = target * 0.1
    low = (clean + 0.01 * torch.randn(clean.shape, generator=numbers)).clamp(0.0, 1.0)
    return {"low": low, "clean": clean, "target": target}


def test_both_networks_learn_each_from_its_own_loss() -> None:
    subject = task()
    numbers = torch.Generator().manual_seed(2)
    losses = subject.losses(batch(), step=0, generator=numbers)
    assert set(losses) == {"loss", "tone", "smooth", "denoise"}
    losses["denoise"].backward(retain_graph=True)
    assert all(p.grad is None for p in subject.module.tone.parameters())
    denoiser = [p.grad for p in subject.module.denoiser.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in denoiser)
    subject.module.zero_grad()
    (losses["tone"] + losses["smooth"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in subject.module.denoiser.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in subject.module.tone.parameters())


def test_the_same_numbers_give_the_same_loss() -> None:
    subject, pictures = task(), batch()
    first, again, other = (
        float(subject.losses(pictures, step=0, generator=torch.Generator().manual_seed(seed))["loss"].detach())
        for seed in (5, 5, 6)
    )
    assert first == again != other


def test_a_perfect_denoiser_would_be_worth_it() -> None:
    """The loss of the denoiser falls when noise is taken away, all else equal."""
    pictures = batch()
    noisy = task()._denoise_loss(pictures, torch.Generator().manual_seed(3))
    quiet = task()._denoise_loss({**pictures, "low": pictures["clean"]}, torch.Generator().manual_seed(3))
    assert float(quiet.detach()) < float(noisy.detach()) - 1.0


def test_night_is_darker_the_less_light_there_was_and_day_is_flatter() -> None:
    subject = task(day_contrast=0.8, day_saturation=0.5)
    target = batch()["target"] * 0.6 + 0.1
    dark, lit = (torch.full_like(target, level) for level in (0.01, 0.4))
    means = [float(subject._night(target, to_ycbcr(low)).mean()) for low in (dark, lit)]
    assert means[0] < means[1] < float(target.mean())
    day = to_ycbcr(subject._day(target))
    before = to_ycbcr(target)
    assert day[:, 0].std() < 0.9 * before[:, 0].std()
    assert float(day[:, 0].mean()) == pytest.approx(float(before[:, 0].mean()), abs=0.02)
    assert day[:, 1:].abs().mean() < 0.7 * before[:, 1:].abs().mean()


def test_colour_goes_there_and_back() -> None:
    rgb = batch()["target"]
    assert torch.allclose(to_rgb(to_ycbcr(rgb)), rgb, atol=1e-5)
    grey = to_ycbcr(torch.full((1, 3, 2, 2), 0.5))
    assert torch.allclose(grey[:, 0], torch.tensor(0.5))
    assert grey[:, 1:].abs().max() < 1e-6


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_transfer_of_an_unchanged_picture_changes_nothing_but_grain(factor: int) -> None:
    low = to_ycbcr(batch()["target"])
    small = torch.nn.functional.avg_pool2d(low, factor)
    luma, chroma = transferred(low, small, small, factor=factor, noise=noise_of(small) * 0, denoised=True)
    assert luma.shape == low[:, :1].shape
    assert chroma.shape[-1] == low.shape[-1] // (1 if factor == 1 else 2)
    assert float((luma - low[:, :1]).abs().mean()) < 0.002


def test_sheet_has_the_columns_it_announces() -> None:
    subject = task()
    columns = subject.pictures(batch(), generator=torch.Generator())
    assert len(columns) == len(subject.captions)
    assert {tuple(column.shape) for column in columns} == {(2, 3, 64, 96)}


def test_the_exported_file_is_a_model(tmp_path: Path) -> None:
    options = {"half": True, "licence": "CC0", "training_data": "noise", "keywords": {"look": "day"}}
    subject = task(**options)
    tensors, metadata = subject.export(subject.module.state_dict())
    file = tmp_path / "w.safetensors"
    write_safetensors(file, tensors, metadata=metadata)
    model = load(file)
    assert model.card.name == "tonenet"
    assert (model.card.licence, model.card.training_data) == ("CC0", "noise")
    assert model.look == "day"  # type: ignore[attr-defined]
    assert json.loads(metadata["streamlight.keywords"]) == {"look": "day"}
    again = TonenetTask.build(TonenetOptions(patch=(16, 24)), start=file, device="cpu")
    for name, tensor in again.module.state_dict().items():
        assert torch.allclose(tensor, subject.module.state_dict()[name], atol=1e-3), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": (0.0, 0.0, 0.0)}, "options.factors: at least one"),
        ({"patch": (20, 24)}, "options.patch: must be multiples of 8"),
        ({"keywords": {"luck": "day"}}, "has no setting 'luck'"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    wanted = TonenetOptions(**{"network": TINY, "patch": (16, 24), **options})
    with pytest.raises(ConfigError, match=message):
        find_task("tonenet").build(wanted, start=None, device="cpu")


def test_pairs_without_a_clean_picture_are_refused() -> None:
    pictures = batch()
    del pictures["clean"]
    with pytest.raises(ConfigError, match=r"data\.clean must be true"):
        task().losses(pictures, step=0, generator=torch.Generator())


def test_patches_larger_than_the_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"is larger than pictures of 16x8"):
        task()._denoise_loss(batch(8, 16), torch.Generator())
