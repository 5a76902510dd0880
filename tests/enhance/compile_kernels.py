"""Compiles every kernel, as the product launches it, for a Hopper card that need not be there; caches in ``FOLDER``.

A process of its own: the tests have Triton's interpreter, and which of the two it is, is decided for good.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_CACHE_DIR"] = sys.argv[1]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from streamlight.enhance.color import codes_from_rgb, rgb_from_planes
from streamlight.enhance.transfer import FrameGeometry
from streamlight.enhance.transfer.device import DeviceMaps, DeviceTransfer
from streamlight.media.frame import ColorSpec
from streamlight.models.nn.histogram import histograms
from streamlight.models.nn.kernels import Kernels


class Driver:
    """What Triton asks before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


_run = JITFunction.run


def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
    """Take the place of a launch."""
    kernel = _run(self, *args, grid=grid, warmup=True, **options)
    print(self.__name__, len(kernel.asm["cubin"]))


triton.runtime.driver.set_active(Driver())
JITFunction.run = compile_only

only = Kernels("triton")
color = ColorSpec()
transfer = DeviceTransfer(FrameGeometry.of(64, 48, color, long_side=16), kernels=only)
pairs = torch.zeros(24, 32, 2, dtype=torch.uint8)
planes = (torch.zeros(48, 64, dtype=torch.uint8), pairs[..., 0], pairs[..., 1])
small = transfer.shrink(planes)
maps = transfer.fit(small, small, eps=(1e-4, small.mean()))
memory = transfer.remember(planes)
transfer.filter_apply(planes, maps, memory=memory, gate=small[0], threshold=small.mean())
codes_from_rgb(rgb_from_planes(planes, color, dtype=torch.bfloat16, kernels=only), color, kernels=only)
histograms(torch.zeros(3, 4096, dtype=torch.uint8), kernels=only)

color = ColorSpec(bit_depth=10)
transfer = DeviceTransfer(FrameGeometry.of(67, 49, color, long_side=17), kernels=only)
planes = (torch.zeros(49, 67, dtype=torch.uint16), *(torch.zeros(25, 34, dtype=torch.uint16) for _ in range(2)))
transfer.apply(planes, DeviceMaps(small, small))
codes_from_rgb(torch.zeros(3, 49, 67), color, kernels=only)
