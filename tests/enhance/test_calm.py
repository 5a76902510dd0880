from __future__ import annotations

import numpy as np
import pytest
import torch

from streamlight.enhance.calm import calm_near_black
from tests.card import card

CODE = 1 / 219


def picture(luma: np.ndarray) -> torch.Tensor:
    small = torch.zeros(3, *luma.shape)
    small[0] = torch.from_numpy(luma.astype(np.float32))
    return small


def blocks(low: float, high: float) -> np.ndarray:
    y, x = np.mgrid[:96, :128]
    return np.where((x // 8 + y // 8) % 2 == 0, low, high) * CODE


def test_one_code_blocks_vanish():
    calm = calm_near_black(picture(blocks(1, 2)))[0].numpy()
    assert calm[16:-16, 16:-16].std() < 0.3 * blocks(1, 2).std()
    assert abs(calm.mean() - 1.5 * CODE) < 0.1 * CODE


def test_real_edges_and_bright_areas_stay():
    edge = np.zeros((96, 128))
    edge[:, 64:] = 12 * CODE
    calm = calm_near_black(picture(edge))[0].numpy()
    assert calm[:, 70:].mean() - calm[:, :58].mean() > 11 * CODE
    bright = picture(blocks(40, 41))
    torch.testing.assert_close(calm_near_black(bright)[0], bright[0], atol=0.2 * CODE, rtol=0)


def test_chroma_is_not_touched_and_input_not_changed():
    small = picture(blocks(1, 2))
    small[1:] = torch.randn(2, 96, 128)
    before = small.clone()
    calm = calm_near_black(small)
    torch.testing.assert_close(calm[1:], before[1:], atol=0, rtol=0)
    torch.testing.assert_close(small, before, atol=0, rtol=0)


def test_switched_off_or_too_small_returns_the_input():
    small = picture(blocks(1, 2))
    assert calm_near_black(small, amount=0.0) is small
    tiny = torch.zeros(3, 3, 200)
    assert calm_near_black(tiny) is tiny


@pytest.mark.parametrize("size", [(96, 128), (135, 240), (137, 241), (67, 69)])
def test_a_device_calms_as_the_cpu_does(size: tuple[int, int]) -> None:
    """Odd sizes included, whose half OpenCV rounds in its own way; nothing waits for the device."""
    height, width = size
    x = torch.arange(width) / width
    small = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height)) * 0.01
    small[0] += x**3 + 2 * CODE * (torch.arange(height)[:, None] // 8 % 2)
    with card() as sim:
        there = sim.put(small)
        calm = sim.get(calm_near_black(there, amount=0.7))
        torch.testing.assert_close(sim.get(there), small, atol=0, rtol=0)
    want = calm_near_black(small, amount=0.7)
    assert (want - small).abs().max() > 0.3 * CODE
    torch.testing.assert_close(calm, want, atol=1e-3 * CODE, rtol=0)
