from __future__ import annotations

import numpy as np
import pytest
import torch

from streamlight.models.llflow.preprocess import equalization_table
from streamlight.models.nn.histogram import histograms
from streamlight.models.nn.kernels import Kernels
from tests.card import card
from tests.enhance.interpreter import needs_interpreter, poisoned

__all__ = ["poisoned"]


def dark_picture(pixels: int) -> torch.Tensor:
    """Three rows that use few codes, the last one among them."""
    rng = np.random.default_rng(pixels)
    rows = rng.geometric(0.2, (3, pixels)).clip(0, 255).astype(np.uint8)
    rows[1] = 255
    return torch.from_numpy(rows)


@pytest.mark.parametrize("backend", ["auto", pytest.param("triton", marks=needs_interpreter)])
@pytest.mark.parametrize("pixels", [1, 2048, 9001])
@pytest.mark.usefixtures("poisoned")
def test_counts_are_numpy_s(pixels: int, backend: str) -> None:
    codes = dark_picture(pixels)
    counts = histograms(codes, kernels=Kernels(backend))
    assert counts.dtype == torch.int64
    for row, got in zip(codes, counts, strict=True):
        assert np.array_equal(got.numpy(), np.bincount(row.numpy(), minlength=256))


@needs_interpreter
def test_rows_that_are_views_are_counted() -> None:
    codes = dark_picture(600).view(3, 20, 30).permute(0, 2, 1)
    assert torch.equal(histograms(codes[:, 0, ::2], kernels=Kernels("triton")), histograms(codes[:, 0, ::2]))


def test_the_table_is_made_without_waiting_for_a_device() -> None:
    codes = dark_picture(600).view(1, 3, 20, 30)
    with card() as sim:
        table = sim.get(equalization_table(sim.put(codes)))
    assert torch.equal(table, equalization_table(codes))
