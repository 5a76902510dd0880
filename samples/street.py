"""What the night drive passes: textures of a street that repeats every LOOP metres.

All textures are linear reflectance, float32, (along the street, across or up, RGB), so that one row of pixels is one
cross-section of the street. Lit windows are a texture of their own, because they shine by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray

LOOP = 180.0  # metres until the street repeats
ALONG = 0.06  # metres per texel along the street
ACROSS = 0.02  # metres per texel across the ground
UP = 0.03  # metres per texel up a wall
HALF = 10.0  # the ground reaches from -HALF to HALF metres
TOP = 9.0  # height of the walls' textures
ROAD = 3.6  # half width of the carriageway
LEVELS = (1, 4, 12, 40, 140)  # blurs along the street, in texels: the mip levels


@dataclass(frozen=True)
class Texture:
    """One surface at several blurs along the street; ``alpha`` says where there is something."""

    colour: tuple[Array, ...]
    alpha: tuple[Array, ...]
    glow: tuple[Array, ...]


def _grain(rng: np.random.Generator, shape: tuple[int, int], *scales: tuple[float, float, float]) -> Array:
    """Sum of blurred white noises, each (sigma along, sigma across, amplitude); repeats along axis 0."""
    out = np.zeros(shape, np.float32)
    for along, across, amplitude in scales:
        noise = rng.standard_normal(shape, dtype=np.float32)
        pad = int(along * 4) + 1
        noise = cv2.GaussianBlur(np.concatenate([noise[-pad:], noise, noise[:pad]]), (0, 0), across, sigmaY=along)
        noise = noise[pad:-pad]
        out += noise * np.float32(amplitude / max(float(noise.std()), 1e-6))
    return out


def _levels(texture: Array) -> tuple[Array, ...]:
    """Blur along the street by every level, with wrap-around, and repeat the first rows for interpolation."""
    out = []
    for length in LEVELS:
        if length == 1:
            level = texture
        else:
            wrapped = np.concatenate([texture[-length:], texture, texture[:length]])
            level = cv2.blur(wrapped, (1, length))[length:-length]
        level = level if level.ndim == texture.ndim else level.reshape(texture.shape)
        out.append(np.ascontiguousarray(np.concatenate([level, level[:2]])))
    return tuple(out)


def _slab(z0: float, z1: float) -> slice:
    return slice(int(z0 / ALONG), int(z1 / ALONG))


def ground(rng: np.random.Generator) -> Texture:
    """Asphalt with patches, cracks and paint; kerbs, paving slabs; a strip of grass on both sides."""
    n, m = int(LOOP / ALONG), int(2 * HALF / ACROSS)
    x = (np.arange(m) * ACROSS - HALF).astype(np.float32)
    z = (np.arange(n) * ALONG).astype(np.float32)
    fine = _grain(rng, (n, m), (0.6, 1.6, 0.6), (2, 6, 0.35), (20, 60, 0.5))
    base = 0.075 * np.exp(0.22 * fine)
    wear = np.exp(-(((np.abs(x) - 1.8) / 0.35) ** 2))  # wheel tracks are polished
    base *= 1 + 0.18 * wear[None]
    colour = np.repeat(base[..., None], 3, axis=2) * np.array([1.0, 0.97, 0.92], np.float32)
    for _ in range(14):  # patches of newer asphalt, manholes
        z0, x0 = rng.uniform(0, LOOP - 8), rng.uniform(-ROAD, ROAD - 1.5)
        rows, cols = (
            _slab(z0, z0 + rng.uniform(1, 6)),
            slice(*(((x0 + np.array([0, 1.4]) + HALF) / ACROSS).astype(int))),
        )
        colour[rows, cols] *= rng.uniform(0.5, 0.75)
    for _ in range(8):
        centre = (int((rng.uniform(-2.5, 2.5) + HALF) / ACROSS), int(rng.uniform(2, LOOP - 2) / ALONG))
        cv2.ellipse(colour, (centre, (34, 11), 0), (0.16, 0.15, 0.14), -1)
        cv2.ellipse(colour, (centre, (24, 8), 0), (0.05, 0.05, 0.05), 1)
    paint = np.float32(0.55) * (1 + 0.15 * fine[..., None])
    dash = ((z % 9.0) < 4.0)[:, None] & (np.abs(x) < 0.07)[None]
    edge = np.broadcast_to((np.abs(np.abs(x) - (ROAD - 0.35)) < 0.06)[None], dash.shape)
    worn = fine < 1.3
    colour = np.where(((dash | edge) & worn)[..., None], paint, colour)
    kerb = (np.abs(x) > ROAD) & (np.abs(x) < ROAD + 0.18)
    walk = (np.abs(x) >= ROAD + 0.18) & (np.abs(x) < 5.9)
    slabs = 0.17 * np.exp(0.16 * fine)
    joints = ((z % 0.9) < 0.06)[:, None] | ((np.abs(x) % 0.6) < 0.03)[None]
    slabs = np.where(joints, 0.05, slabs)[..., None] * np.array([1.0, 0.96, 0.88], np.float32)
    colour = np.where(walk[None, :, None], slabs, colour)
    stone = np.where((z % 1.0 < 0.06)[:, None], 0.07, 0.15 * np.exp(0.12 * fine))
    colour = np.where(kerb[None, :, None], stone[..., None], colour)
    blades = _grain(rng, (n, m), (0.7, 1.2, 1.0), (4, 12, 0.6))
    grass = (0.07 * np.exp(0.5 * blades))[..., None] * np.array([0.75, 1.15, 0.4], np.float32)
    colour = np.where((np.abs(x) >= 5.9)[None, :, None], grass, colour).astype(np.float32)
    return Texture(_levels(colour), (), ())


def _house(colour: Array, alpha: Array, glow: Array, rng: np.random.Generator, z0: float, z1: float) -> None:
    """One house from z0 to z1: brick or plaster, a roof, windows (some lit), a door; written in place."""
    rows = _slab(z0, z1)
    n = rows.stop - rows.start
    eaves = rng.uniform(4.8, 6.2)
    up = int(eaves / UP)
    tint = np.array([(0.30, 0.15, 0.10), (0.36, 0.33, 0.27), (0.26, 0.22, 0.17), (0.33, 0.28, 0.2)])[rng.integers(4)]
    wall = np.exp(0.12 * _grain(rng, (n, up), (0.7, 0.7, 0.8), (12, 12, 0.6)))
    courses = (np.arange(up) % 5 == 0)[None] | ((np.arange(n)[:, None] + 4 * (np.arange(up)[None] // 5 % 2)) % 8 == 0)
    wall = np.where(courses & (tint[1] < 0.3), wall * 0.62, wall)
    colour[rows, :up] = wall[..., None] * tint.astype(np.float32)
    alpha[rows, :up] = 1.0
    ridge = int(min(eaves + 2.2, TOP - 0.1) / UP)
    tiles = (
        0.07
        * (1 + 0.25 * (np.arange(up, ridge) % 6 < 2))[None]
        * np.exp(0.15 * _grain(rng, (n, ridge - up), (1, 1, 1)))
    )
    colour[rows, up:ridge] = tiles[..., None] * np.array([1.0, 0.8, 0.7], np.float32)
    inset = np.abs(np.linspace(-1, 1, n))[:, None] < np.linspace(1.0, 0.86, ridge - up)[None]
    alpha[rows, up:ridge] = np.maximum(alpha[rows, up:ridge], inset)
    for floor in (0.9, 3.3):
        for at in np.arange(z0 + 1.2, z1 - 1.6, 2.6):
            box = _slab(at, at + 1.2), slice(int(floor / UP), int((floor + 1.3) / UP))
            frame = _slab(at - 0.12, at + 1.32), slice(int((floor - 0.12) / UP), int((floor + 1.42) / UP))
            door = floor < 1 and rng.random() < 0.25
            colour[frame] = 0.5
            colour[box] = (0.10, 0.12, 0.08) if door else (0.02, 0.02, 0.025)
            if not door and rng.random() < 0.22:
                warm = np.array([(1.0, 0.72, 0.38), (1.0, 0.82, 0.55), (0.55, 0.7, 1.0)], np.float32)[rng.integers(3)]
                shade = np.linspace(0.5, 1.0, glow[box].shape[1], dtype=np.float32)[None, :, None]
                glow[box] = rng.uniform(0.05, 0.22) * warm * shade
                middle = (box[0].start + box[0].stop) // 2
                glow[middle : middle + 1, box[1]] *= 0.15  # the bar of the window


def houses(rng: np.random.Generator) -> Texture:
    """A row of houses with gaps; low garden walls in the gaps."""
    n, m = int(LOOP / ALONG), int(TOP / UP)
    colour = np.zeros((n, m, 3), np.float32)
    alpha, glow = np.zeros((n, m), np.float32), np.zeros((n, m, 3), np.float32)
    low = int(1.1 / UP)
    colour[:, :low] = 0.16 * np.exp(0.2 * _grain(rng, (n, low), (1, 1, 1), (8, 3, 0.5)))[..., None]
    alpha[:, :low] = 1.0
    at = 1.0
    while at < LOOP - 9:
        length = rng.uniform(8, 15)
        _house(colour, alpha, glow, rng, at, min(at + length, LOOP - 0.5))
        at += length + (rng.uniform(2, 7) if rng.random() < 0.7 else 0.1)
    return Texture(_levels(colour), _levels(alpha), _levels(glow))


def greenery(rng: np.random.Generator) -> Texture:
    """Hedges, and trees whose crowns hang over them; mostly air."""
    n, m = int(LOOP / ALONG), int(TOP / UP)
    leaves = _grain(rng, (n, m), (1.2, 2.0, 1.0), (5, 9, 0.8))
    up, z = (np.arange(m) * UP).astype(np.float32)[None], (np.arange(n) * ALONG).astype(np.float32)[:, None]
    hedge = np.where((z % 60.0) < 22.0, 1.1, -1.0) + 0.12 * leaves - up
    crown = np.full((n, m), -1.0, np.float32)
    trunk = np.zeros((n, m), bool)
    for at in np.arange(9.0, LOOP - 5, 26.0) + rng.uniform(-3, 3, len(np.arange(9.0, LOOP - 5, 26.0))):
        radius, middle = rng.uniform(3.2, 4.4), rng.uniform(5.0, 5.6)
        distance = np.sqrt(((z - at) / radius) ** 2 + ((up - middle) / (radius * 0.62)) ** 2)
        crown = np.maximum(crown, 1.0 - distance + 0.22 * leaves)
        trunk |= (np.abs(z - at) < 0.16) & (up < middle)
    alpha = ((hedge > 0) | (crown > 0) | trunk).astype(np.float32)
    green = (0.09 * np.exp(0.55 * leaves))[..., None] * np.array([0.6, 1.0, 0.35], np.float32)
    bark = (0.08 * np.exp(0.2 * leaves))[..., None] * np.array([1.0, 0.85, 0.7], np.float32)
    colour = np.where((trunk & (crown < 0) & (hedge < 0))[..., None], bark, green).astype(np.float32)
    return Texture(_levels(colour), _levels(alpha), ())
