"""Triton's interpreter, which runs kernels on the CPU. To be imported before any kernel is.

Triton decides between compiler and interpreter where a kernel is defined, those of its own library included, so the
switch is set here and not in a fixture.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    _reason = "Triton is not installed"
elif torch.cuda.is_available():
    _reason = "kernels are compiled here, see tests/gpu"
elif "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    _reason = "Triton was loaded before its interpreter was chosen"
else:
    _reason = ""
    os.environ["TRITON_INTERPRET"] = "1"

needs_interpreter = pytest.mark.skipif(bool(_reason), reason=_reason)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill what ``torch.empty`` gives with NaN or the largest number, so that what a kernel leaves out is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    assert torch.empty(3, dtype=torch.uint16).int().eq(65535).all()
    yield
    torch.use_deterministic_algorithms(before)
