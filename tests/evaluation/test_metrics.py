"""The metrics against scikit-image, OpenCV and numbers worked out by hand."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.evaluation import metrics


def pictures(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two related pictures, ``(H, W, 3)`` float64 in [0, 1]."""
    rng = np.random.default_rng(seed)
    lit = cv2.GaussianBlur(rng.random((height, width, 3)), (0, 0), 2.0)
    lit = (lit - lit.min()) / (lit.max() - lit.min())
    return np.clip(0.6 * lit + rng.normal(0, 0.05, lit.shape), 0, 1), lit


def tensor(*arrays: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([array.transpose(2, 0, 1) for array in arrays]))


def peer_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1
    )


@pytest.mark.parametrize("size", [(11, 11), (12, 300), (37, 131), (150, 64), (90, 700)])
def test_psnr_and_ssim_are_those_of_scikit_image(size: tuple[int, int]) -> None:
    first, second = pictures(*size, seed=1), pictures(*size, seed=2)
    result, reference = tensor(first[0], second[0]), tensor(first[1], second[1])
    expected = [peer_ssim(*first), peer_ssim(*second)]
    assert metrics.ssim(result, reference).tolist() == pytest.approx(expected, abs=1e-10)
    expected = [peak_signal_noise_ratio(lit, mine, data_range=1.0) for mine, lit in (first, second)]
    assert metrics.psnr(result, reference).tolist() == pytest.approx(expected, abs=1e-9)


def test_eight_bit_pictures_in_single_precision_agree_too() -> None:
    mine, lit = ((255 * picture).round().astype(np.uint8) for picture in pictures(60, 80))
    result, reference = (tensor(picture).float() / 255.0 for picture in (mine, lit))
    expected = structural_similarity(
        mine, lit, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
    )
    assert metrics.ssim(result, reference).item() == pytest.approx(expected, abs=1e-6)
    assert metrics.psnr(result, reference).item() == pytest.approx(peak_signal_noise_ratio(lit, mine), abs=1e-5)


def test_equal_pictures() -> None:
    _, lit = pictures(20, 30)
    assert metrics.psnr(tensor(lit), tensor(lit)).item() == float("inf")
    assert metrics.ssim(tensor(lit), tensor(lit)).item() == pytest.approx(1.0, abs=1e-12)


def test_psnr_takes_all_channels_together() -> None:
    reference = torch.zeros(1, 3, 4, 4)
    result = reference.clone()
    result[:, 0] = 0.3  # mean square error 0.09 / 3
    assert metrics.psnr(result, reference).item() == pytest.approx(-10 * np.log10(0.03), abs=1e-6)


def test_gt_mean_is_one_gain_of_grey_means() -> None:
    reference = torch.zeros(1, 3, 2, 2)
    reference[:, 0] = 0.5  # red: grey 0.1495
    result = torch.zeros(1, 3, 2, 2)
    result[:, 2] = 0.25  # blue: grey 0.0285
    gain = metrics.gt_mean_gain(result, reference).item()
    assert gain == pytest.approx((0.299 * 0.5) / (0.114 * 0.25))
    aligned = metrics.gt_mean(result, reference)
    assert aligned[:, 2].unique().tolist() == [1.0]  # 1.31, clipped
    assert aligned[:, :2].abs().max() == 0.0  # the cast stays


def test_gt_mean_is_what_the_common_scripts_do() -> None:
    mine, lit = (picture.astype(np.float32) for picture in pictures(40, 50))
    gain = cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY).mean() / cv2.cvtColor(mine, cv2.COLOR_RGB2GRAY).mean()
    aligned = metrics.gt_mean(tensor(mine), tensor(lit))
    assert gain > 1.3
    assert torch.allclose(aligned, tensor(np.clip(mine * gain, 0, 1)), atol=1e-5)
    assert len(aligned.mul(255).frac().unique()) > 100  # not rounded to codes


def test_gt_mean_of_each_picture_by_itself() -> None:
    mine, lit = pictures(16, 16)
    gains = metrics.gt_mean_gain(tensor(mine, 0.5 * mine), tensor(lit, lit))
    assert gains[1].item() == pytest.approx(2 * gains[0].item())


def test_gt_mean_leaves_black_black() -> None:
    _, lit = pictures(12, 12)
    black = np.zeros_like(lit)
    assert metrics.gt_mean_gain(tensor(black), tensor(lit)).item() == 1.0
    assert metrics.gt_mean(tensor(black), tensor(lit)).abs().max() == 0.0


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.gt_mean])
def test_wrong_shapes_are_refused(metric: metrics.Metric) -> None:
    good = torch.zeros(1, 3, 16, 16)
    for wrong in (torch.zeros(1, 3, 16, 15), torch.zeros(2, 3, 16, 16), torch.zeros(3, 16, 16)):
        with pytest.raises(ValueError, match="two pictures of one shape"):
            metric(good, wrong)
    with pytest.raises(ValueError, match="two pictures of one shape"):
        metric(good[:, :1], good[:, :1])


def test_ssim_needs_a_window() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        metrics.ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_lpips_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"lpips and torchvision.*pip install 'streamlight\[lpips\]'"):
        metrics.open_lpips()
    monkeypatch.setattr(metrics, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"alexnet-owt-7be5be79\.pth is missing, and nothing is downloaded here"):
        metrics.open_lpips()


def test_lpips_gets_what_it_expects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for the package: the real one needs weights that are not here."""
    seen: list[tuple[float, float]] = []

    class Stand(torch.nn.Module):
        def __init__(self, **keywords: object) -> None:
            super().__init__()
            assert (keywords["net"], keywords["version"]) == ("alex", "0.1")

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            seen.append((a.min().item(), a.max().item()))
            return (a - b).abs().mean((1, 2, 3), keepdim=True)

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    module = types.ModuleType("lpips")
    module.LPIPS = Stand  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(metrics, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metric = metrics.open_lpips()
    picture = torch.rand(2, 3, 40, 40)
    picture[0, 0, 0, 0], picture[0, 0, 0, 1] = 0.0, 1.0
    value = metric(picture, 1.0 - picture)
    assert value.shape == (2,)
    assert seen == [(-1.0, 1.0)]
    with pytest.raises(ValueError, match="at least 31"):
        metric(picture[..., :30], picture[..., :30])


def test_lpips_that_does_not_load_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A torchvision that was built for another torch fails on import with a RuntimeError."""

    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    monkeypatch.setattr(metrics, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(metrics, "import_module", broken)
    with pytest.raises(ConfigError, match=r"nms does not exist\); install the torchvision that belongs to torch"):
        metrics.open_lpips()
