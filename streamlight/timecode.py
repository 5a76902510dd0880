"""Times as people write them, kept exact."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def parse_time(value: Any) -> Fraction | None:
    """Read a time: seconds (``90``, ``"90.5"``) or ``[hh:]mm:ss[.fraction]``, as exact seconds.

    Floats are read by their shortest decimal form, so that 0.1 is a tenth.

    Raises:
        ValueError: If it is no time, negative, or not finite.
    """
    if value is None or (isinstance(value, Fraction) and value >= 0):
        return value
    if isinstance(value, bool):
        raise ValueError("a boolean is not a time")
    text = str(value).strip()
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = clock.groups()
        if (int(minutes) > 59 and hours is not None) or Fraction(seconds) >= 60:
            raise ValueError(f"{text!r} has minutes or seconds above 59")
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a time") from None
    # The bounds also keep the fraction small: 1e-999999999 has a denominator that fills the memory.
    if not number.is_finite() or not 0 <= number <= 10**9 or int(number.as_tuple().exponent) < -30:
        raise ValueError(f"{text!r} is not a time: it must be finite, not negative, and at most 1e9 seconds")
    return Fraction(number)


def format_time(seconds: Fraction | float) -> str:
    """``h:mm:ss`` or ``m:ss`` for people; fractions of a second are cut off."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
