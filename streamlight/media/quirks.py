"""What has to be worked around in other people's libraries, each with the evidence."""

from __future__ import annotations

from functools import cache
from pathlib import Path


def x264_options(preset: str) -> dict[str, str]:
    """Options that make x264 give the same bits for the same frames.

    x264's AVX-512 code for the macroblock tree reads memory that nothing has written: with the presets that use the
    tree (veryfast and slower), the same 30 frames gave two or three different streams in about every fourth trial,
    also on one thread. Without AVX-512 every trial agreed, at the same speed within 5 %.
    """
    if preset in ("ultrafast", "superfast") or not _has_avx512():
        return {}
    return {"x264-params": "asm=avx2"}


@cache
def _has_avx512() -> bool:
    """Whether x264 would choose AVX-512; False where the system does not say, or lacks the AVX2 to fall back on."""
    try:
        words = set(Path("/proc/cpuinfo").read_text("ascii", "replace").split())
    except OSError:
        return False
    return {"avx512f", "avx2"} <= words
