"""Ways to damage a file. Everything is decided by the seed, so that a case can be repeated by its number."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Flip 1 to 64 bits anywhere."""
    for _ in range(2 ** rng.randrange(7)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def damage_header(data: bytearray, rng: random.Random) -> None:
    """Overwrite a few bytes among the first (or, where an index is, the last) kilobyte."""
    span = min(1024, len(data))
    base = rng.choice((0, len(data) - span))
    for _ in range(rng.randrange(1, 9)):
        data[base + rng.randrange(span)] = rng.randrange(256)


def extreme_number(data: bytearray, rng: random.Random) -> None:
    """Put an extreme 32-bit number where one may be: sizes, counts, rates, offsets."""
    if len(data) < 8:
        return
    at = rng.randrange(len(data) - 4)
    data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREMES))


def extreme_field(data: bytearray, rng: random.Random) -> None:
    """The same behind a four-letter tag of MP4 or AVI, where such numbers really are."""
    tags = [i for i in range(len(data) - 24) if data[i : i + 4].isalnum()]
    if tags:
        at = rng.choice(tags) + 4 * rng.randrange(-1, 6)
        if at >= 0:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREMES))


def truncate(data: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del data[rng.randrange(len(data)) :]


def remove_chunk(data: bytearray, rng: random.Random) -> None:
    """Take some bytes out."""
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 1 + max(1, len(data) // 4))]


def repeat_chunk(data: bytearray, rng: random.Random) -> None:
    """Put some bytes in twice."""
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 1 + max(1, len(data) // 4))]


def blank_chunk(data: bytearray, rng: random.Random) -> None:
    """Set some bytes to zero, or to 255."""
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randrange(1, 1 + max(1, len(data) // 4)))
    data[at:end] = bytes([rng.choice((0, 255))]) * (end - at)


def swap_chunks(data: bytearray, rng: random.Random) -> None:
    """Exchange two stretches of equal length."""
    size = rng.randrange(1, 1 + max(1, len(data) // 8))
    a, b = sorted(rng.randrange(max(1, len(data) - size)) for _ in range(2))
    if a + size <= b:
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def insert_noise(data: bytearray, rng: random.Random) -> None:
    """Put random bytes in."""
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.randrange(1, 300))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    damage_header,
    extreme_number,
    extreme_field,
    truncate,
    remove_chunk,
    repeat_chunk,
    blank_chunk,
    swap_chunks,
    insert_noise,
)


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Damage a file once, sometimes up to four times; returns the result and what was done."""
    out, names = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not out:
            break
        change = rng.choice(MUTATIONS)
        change(out, rng)
        names.append(change.__name__)
    return bytes(out), "+".join(names)
