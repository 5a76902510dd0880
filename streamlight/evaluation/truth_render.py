"""Draws a world of lit, textured, flat pieces, and knows exactly where each pixel goes.

Every piece is a rounded rectangle in space that moves as a rigid body, so that its picture moves by a homography from
frame to frame: motion and occlusion are computed, not estimated. Pieces are drawn from back to front with antialiased
edges; textures lose their detail where pixels are too coarse for it, as behind a lens.

Pixels have their centres on whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from streamlight.evaluation.truth_world import Camera, Piece, Setting, Stripes, Surface

_NEAR: Final = 0.3
_TILE: Final = 256
_FOLD: Final = 1024
_OCTAVES: Final = 6
_FAINT: Final = 2e-4
_PER_WAVE: Final = 6.0
"""Samples of the noise tile in one wavelength: so smooth that bilinear interpolation loses little."""


@dataclass(slots=True)
class Drawn:
    """A picture and what is where in it.

    Attributes:
        linear: ``(H, W, 3)`` float32, light.
        reflectance: ``(H, W, 3)`` float32: the same under white light of strength 1 everywhere, without glow.
        piece: ``(H, W)`` int32: number of the piece in front, -1 for none.
        pure: ``(H, W)`` bool: nothing but that piece is in the pixel.
        maps: By piece, 3x3: place on the piece to homogeneous pixel.
    """

    linear: np.ndarray
    reflectance: np.ndarray
    piece: np.ndarray
    pure: np.ndarray
    maps: dict[int, np.ndarray] = field(default_factory=dict)


def draw(setting: Setting, *, width: int, height: int) -> Drawn:
    """Draw the world as its camera sees it.

    Args:
        setting: The world.
        width: Pixels.
        height: Pixels.
    """
    out = Drawn(
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width, 3), np.float32),
        np.full((height, width), -1, np.int32),
        np.zeros((height, width), bool),
    )
    lens, turn = _lens(setting.camera, width, height), _rotation(setting.camera)
    eye = np.array(setting.camera.place)
    out.maps = {number: _map(piece, lens @ turn, eye) for number, piece in enumerate(setting.pieces)}

    def order(number: int) -> tuple[int, float, int]:
        piece = setting.pieces[number]
        return piece.rank, -float(np.linalg.norm(np.array(piece.at or piece.centre) - eye)), number

    for number in sorted(out.maps, key=order):
        _draw_piece(out, number, setting)
    return out


def exact_motion(now: Drawn, following: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Where everything in a picture is in the next one.

    Args:
        now: A picture.
        following: The next one of the same shot.

    Returns:
        ``(H, W, 2)`` float32 motion in pixels (x, y), and ``(H, W)`` bool: where the pixel shows one piece alone and so
        do all pixels around the place it goes to, the same piece. Pixels on outlines are never among them.
    """
    height, width = now.piece.shape
    motion = np.zeros((height, width, 2), np.float32)
    visible = np.zeros((height, width), bool)
    for number in np.unique(now.piece[now.piece >= 0]):
        rows, columns = np.nonzero(now.piece == number)
        pixels = np.stack([columns, rows, np.ones_like(rows)]).astype(np.float64)
        there = following.maps[int(number)] @ np.linalg.inv(now.maps[int(number)]) @ pixels
        # The inverse gives places over depth, so the third number is the quotient of depths: in front if positive.
        ahead = there[2] > 1e-6
        x, y = (np.where(ahead, there[axis] / np.where(ahead, there[2], 1.0), -1e6) for axis in (0, 1))
        motion[rows, columns, 0] = np.where(ahead, x - columns, 0.0)
        motion[rows, columns, 1] = np.where(ahead, y - rows, 0.0)
        within = (x >= 0.0) & (y >= 0.0) & (x <= width - 1.0) & (y <= height - 1.0)
        left, top = (np.clip(np.floor(p), 0, n - 1).astype(np.intp) for p, n in ((x, width), (y, height)))
        right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
        same = within & now.pure[rows, columns]
        for a in (top, below):
            for b in (left, right):
                same &= following.pure[a, b] & (following.piece[a, b] == number)
        visible[rows, columns] = same
    return motion, visible


def _draw_piece(out: Drawn, number: int, setting: Setting) -> None:
    piece, to_pixel = setting.pieces[number], out.maps[number]
    height, width = out.piece.shape
    box = _box(piece, to_pixel, width, height)
    if box is None or abs(np.linalg.det(to_pixel)) < 1e-9:
        return
    back = np.linalg.inv(to_pixel)
    x = np.arange(box[0], box[2], dtype=np.float64)
    y = np.arange(box[1], box[3], dtype=np.float64)[:, None]
    # Place on the piece over depth, and one over depth: all linear in the pixel.
    a, b, c = (row[0] * x + row[1] * y + row[2] for row in back)
    cover = np.where((c > 1e-6) & (c < 1.0 / _NEAR), _cover(piece, a, b, c, back), 0.0).astype(np.float32)
    there = cover > 0.0
    if not there.any():
        return
    c = c[there]
    u, v = a[there] / c, b[there] / c
    spread = [np.hypot(back[0, k] - u * back[2, k], back[1, k] - v * back[2, k]) / c for k in (0, 1)]
    albedo, glow = _paint(piece.surface, u, v, np.maximum(*spread).astype(np.float32))
    light = albedo * _irradiance(piece, u, v, setting) + glow * np.float32(piece.power)
    part = slice(box[1], box[3]), slice(box[0], box[2])
    share = cover[there][:, None]
    for target, value in ((out.linear[part], light), (out.reflectance[part], albedo)):
        below = target[there]
        target[there] = below + share * (value - below)
    out.piece[part][cover >= 0.5] = number
    out.pure[part] = np.where(cover >= 1.0, True, out.pure[part] & ~there)


def _cover(piece: Piece, a: np.ndarray, b: np.ndarray, c: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Share of each pixel that the piece covers, from the distance of its outline in pixels."""
    if piece.radius > 0.0:
        safe = np.maximum(c, 1e-6)
        outside = _distance(a / safe, b / safe, piece)
        down, right = (np.gradient(outside, axis=k) if outside.shape[k] > 1 else np.zeros(1) for k in (0, 1))
        slope = np.hypot(down, right)
        return np.clip(0.5 - outside / np.maximum(slope, 1e-9), 0.0, 1.0)
    beyond = np.full(c.shape, -np.inf)
    for row, place, half in ((0, a, piece.half[0]), (1, b, piece.half[1])):
        for sign in (1.0, -1.0):  # the edge is the line in the picture where sign · place = half
            normal = np.hypot(sign * back[row, 0] - half * back[2, 0], sign * back[row, 1] - half * back[2, 1])
            np.maximum(beyond, (sign * place - half * c) / max(float(normal), 1e-12), out=beyond)
    return np.clip(0.5 - beyond, 0.0, 1.0)


def _paint(surface: Surface, u: np.ndarray, v: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Albedo and glow, ``(N, 3)`` each, where a pixel covers ``spread`` metres."""
    rng = np.random.default_rng([surface.seed, 77])
    noise = np.zeros(u.shape, np.float32)
    for octave in range(_OCTAVES):
        wave = surface.wave / 2.0**octave
        keep = np.clip((wave / np.maximum(spread, 1e-9) - 3.0) / 5.0, 0.0, 1.0)
        shift = rng.uniform(0, _TILE, 2)
        if surface.grain and keep.any():
            seen = _lookup(u * (_PER_WAVE / wave) + shift[0], v * (_PER_WAVE / wave) + shift[1])
            noise += np.float32(_OCTAVES**-0.5) * keep * seen
    shade = np.clip(1.0 + surface.grain * noise, 0.15, 1.85)[:, None]
    albedo = np.array(surface.color, np.float32) * shade
    glow = np.broadcast_to(np.array(surface.glow, np.float32), albedo.shape)
    for stripes in surface.stripes:
        there = _bars(u, spread, stripes, 0) * _bars(v, spread, stripes, 1)
        albedo = albedo + there[:, None] * (np.array(stripes.color, np.float32) * shade - albedo)
        if any(stripes.glow):
            lit = there * _chosen(u, v, stripes, surface.seed)
            glow = glow + lit[:, None] * (np.array(stripes.glow, np.float32) - glow)
    return albedo, glow


def _irradiance(piece: Piece, u: np.ndarray, v: np.ndarray, setting: Setting) -> np.ndarray:
    across, down = np.array(piece.across), np.array(piece.down)
    normal = np.cross(across, down)
    total = np.broadcast_to(np.array(setting.ambient, np.float32), (*u.shape, 3)).copy()
    for light in setting.lights:
        start = np.array(piece.centre) - np.array(light.place)
        if not any(light.color) or max(light.color) < _FAINT * _nearest(piece, start) ** 2:
            continue
        # From the light to the surface; in double precision up to here, because streets are kilometres long.
        ray = [(start[axis] + u * across[axis] + v * down[axis]).astype(np.float32) for axis in range(3)]
        square = np.maximum(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2], np.float32(1e-4))
        inverse = 1.0 / np.sqrt(square)
        strength = np.float32(abs(float(start @ normal))) * inverse / (square + np.float32(light.size**2))
        if light.ahead is not None:
            beam = (np.array(light.ahead) / np.linalg.norm(light.ahead)).astype(np.float32)
            cosine = (ray[0] * beam[0] + ray[1] * beam[1] + ray[2] * beam[2]) * inverse
            strength *= np.clip(cosine, 0.0, 1.0) ** np.float32(light.sharp)
        total += strength[:, None] * np.array(light.color, np.float32)
    return total


def _nearest(piece: Piece, start: np.ndarray) -> float:
    """No place of the piece is nearer to a light, ``start`` being the way from it to the centre."""
    sides = zip((piece.across, piece.down), piece.half, strict=True)
    along = [max(0.0, abs(float(start @ np.array(axis))) - half) for axis, half in sides]
    return math.hypot(*along, float(start @ np.cross(piece.across, piece.down)))


def _distance(u: np.ndarray, v: np.ndarray, piece: Piece) -> np.ndarray:
    """Signed distance to the outline in metres, negative inside."""
    dx = np.abs(u) - (piece.half[0] - piece.radius)
    dy = np.abs(v) - (piece.half[1] - piece.radius)
    beyond: np.ndarray = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
    return beyond + np.minimum(np.maximum(dx, dy), 0.0) - piece.radius


def _bars(place: np.ndarray, spread: np.ndarray, stripes: Stripes, axis: int) -> np.ndarray:
    """Share of a pixel that bars cover along one axis: the box function, averaged over the pixel."""
    period, width = stripes.period[axis], stripes.width[axis]
    if period <= 0.0:
        return np.ones(place.shape, np.float32)
    wide = np.maximum(1.5 * spread, 1e-4)

    def integral(x: np.ndarray) -> np.ndarray:
        turns = np.floor(x / period)
        result: np.ndarray = turns * width + np.minimum(x - turns * period, width)
        return result

    place = place - stripes.start[axis]
    return ((integral(place + wide / 2) - integral(place - wide / 2)) / wide).astype(np.float32)


def _chosen(u: np.ndarray, v: np.ndarray, stripes: Stripes, seed: int) -> np.ndarray:
    """Which bars glow, by a hash of their numbers."""
    if stripes.share >= 1.0:
        return np.ones(u.shape, np.float32)
    cells = [
        # Counted from the middle of the gaps, so that the soft edge of a bar belongs to the bar.
        np.floor((p - start) / period + (1.0 - wide / period) / 2.0).astype(np.int64)
        if period > 0.0
        else np.zeros(u.shape, np.int64)
        for p, start, period, wide in zip((u, v), stripes.start, stripes.period, stripes.width, strict=True)
    ]
    mixed = (cells[0] * 73856093) ^ (cells[1] * 19349663) ^ (seed * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return (((mixed ^ (mixed >> 16)) & 0xFFFF) < stripes.share * 65536).astype(np.float32)


def _lookup(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # OpenCV wants pictures of limited sides, so the list of places is folded into one.
    folded = []
    for place in (x, y):
        flat = np.zeros(-(-place.size // _FOLD) * _FOLD, np.float32)
        flat[: place.size] = np.mod(place, _TILE)
        folded.append(flat.reshape(-1, _FOLD))
    found: np.ndarray = cv2.remap(_NOISE, folded[0], folded[1], cv2.INTER_LINEAR).reshape(-1)[: x.size]
    return found


def _noise_tile() -> np.ndarray:
    """Smooth noise that repeats, mean 0 and standard deviation 1; one row and column more, to interpolate across."""
    white = np.random.default_rng(5).standard_normal((_TILE, _TILE))
    frequency = np.fft.fftfreq(_TILE)
    keep = np.exp(-((np.hypot(frequency[:, None], frequency) * _PER_WAVE / 1.1) ** 2))
    tile = np.fft.ifft2(np.fft.fft2(white) * keep).real
    tile = (tile - tile.mean()) / tile.std()
    return np.pad(tile, ((0, 1), (0, 1)), mode="wrap").astype(np.float32)


_NOISE: Final = _noise_tile()


def _map(piece: Piece, project: np.ndarray, eye: np.ndarray) -> np.ndarray:
    columns = np.stack([np.array(piece.across), np.array(piece.down), np.array(piece.centre) - eye], axis=1)
    found: np.ndarray = project @ columns
    return found


def _box(piece: Piece, to_pixel: np.ndarray, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the pixels it may cover."""
    a, b = piece.half
    corners = to_pixel @ np.array([[-a, a, a, -a], [-b, -b, b, b], [1.0, 1.0, 1.0, 1.0]])
    if (corners[2] <= _NEAR).all():
        return None
    if (corners[2] <= _NEAR).any():
        return 0, 0, width, height
    x, y = corners[:2] / corners[2]
    left, top = max(0, int(np.floor(x.min())) - 2), max(0, int(np.floor(y.min())) - 2)
    right, bottom = min(width, int(np.ceil(x.max())) + 3), min(height, int(np.ceil(y.max())) + 3)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _lens(camera: Camera, width: int, height: int) -> np.ndarray:
    focal = width / (2.0 * np.tan(np.radians(camera.field_of_view) / 2.0))
    return np.array([[focal, 0.0, (width - 1) / 2.0], [0.0, focal, (height - 1) / 2.0], [0.0, 0.0, 1.0]])


def _rotation(camera: Camera) -> np.ndarray:
    """World to camera, 3x3."""
    yaw, pitch, roll = np.radians([camera.yaw, camera.pitch, camera.roll])
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    lean = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    found: np.ndarray = lean @ tilt @ turn
    return found
