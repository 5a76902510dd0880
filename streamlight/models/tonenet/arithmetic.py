"""exp and log for numba kernels: without a vector library numba calls those of C once a pixel, and these vectorise.

Numba's cache sees changes of a function's own file only: who edits this file must touch those that use it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

_options: dict[str, Any] = {"nogil": True, "cache": True, "inline": "always", "error_model": "numpy"}
_f = np.float32
_i = np.int32

_LOG2_E: Final = _f(1.44269504)
_LN_2_HIGH: Final = _f(0.693359375)
_LN_2_LOW: Final = _f(-2.12194440e-4)
_LN_2: Final = _f(0.69314718)


@njit(**_options)
def log1p(t):  # type: ignore[no-untyped-def]
    """Logarithm of 1 + t for t > -0.25, relative accuracy 1.5e-7 for small t too."""
    bits = _f(t + _f(1.0)).view(_i)
    exponent = (bits - _i(0x3F400000)) >> _i(23)
    mantissa = _i(bits - (exponent << _i(23))).view(_f)  # [0.75, 1.5)
    return _log_near_1(t if exponent == 0 else mantissa - _f(1.0)) + _f(exponent) * _LN_2


@njit(**_options)
def log(u):  # type: ignore[no-untyped-def]
    """Natural logarithm of a normal number above 0."""
    bits = _f(u).view(_i)
    exponent = (bits - _i(0x3F400000)) >> _i(23)
    return _log_near_1(_i(bits - (exponent << _i(23))).view(_f) - _f(1.0)) + _f(exponent) * _LN_2


@njit(**_options)
def _log_near_1(f):  # type: ignore[no-untyped-def]
    """Logarithm of 1 + f for f in [-0.25, 0.5]."""
    p = _f(0.05425942529)
    p = p * f - _f(0.120915211)
    p = p * f + _f(0.1499683244)
    p = p * f - _f(0.16822814)
    p = p * f + _f(0.1997555392)
    p = p * f - _f(0.2499326355)
    p = p * f + _f(0.3333360253)
    p = p * f - _f(0.5000006599)
    p = p * f + _f(1.0)
    return p * f


@njit(**_options)
def exp(x):  # type: ignore[no-untyped-def]
    """Exponential function, relative accuracy 1.5e-7, of an argument clamped to ±87."""
    x = min(max(x, _f(-87.0)), _f(87.0))
    n = np.floor(x * _LOG2_E + _f(0.5))
    r = x - n * _LN_2_HIGH - n * _LN_2_LOW
    p = _f(0.001394976924)
    p = p * r + _f(0.008375961219)
    p = p * r + _f(0.04166620025)
    p = p * r + _f(0.1666640538)
    p = p * r + _f(0.5000000114)
    p = p * r + _f(1.0)
    p = p * r + _f(1.0)
    return p * _i((_i(n) + _i(127)) << _i(23)).view(_f)
