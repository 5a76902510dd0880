"""The CUDA driver, for the one thing that FFmpeg does not do: working in the context that PyTorch works in.

Memory can be handed over only within one context. PyTorch uses the primary context of a device. FFmpeg refuses that one
as soon as it is in use with PyTorch's settings, but takes whatever context is current on the thread that opens a
decoder or an encoder; so the primary context is made the current one for that moment.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from streamlight.errors import DeviceError

CURRENT_CONTEXT: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
"""Options that make FFmpeg's CUDA devices use the current context."""

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed; says nothing about whether there is a device."""
    try:
        _library()
    except DeviceError:
        return False
    return True


@contextmanager
def primary_context(index: int) -> Iterator[None]:
    """Make the primary context of a CUDA device the current one of this thread.

    Raises:
        DeviceError: There is no driver, or no such device.
    """
    driver, context = _library(), _retained(index)
    _check(driver, driver.cuCtxPushCurrent_v2(context), index)
    try:
        yield
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@cache
def _library() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise DeviceError(f"there is no NVIDIA driver ({_LIBRARY} is missing)") from error


@cache
def _retained(index: int) -> ctypes.c_void_p:
    """The primary context of a device; kept until the process ends, as pictures on their way may need it."""
    driver = _library()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _check(driver, driver.cuInit(0), index)
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), index), index)
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), index)
    return context


def _check(driver: Any, code: int, index: int) -> None:
    if code == 0:
        return
    name = ctypes.c_char_p()
    driver.cuGetErrorName(code, ctypes.byref(name))
    text = name.value.decode(errors="replace") if name.value else f"error {code}"
    raise DeviceError(f"CUDA device {index} does not open ({text})")
