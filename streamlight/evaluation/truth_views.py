"""The two places of :mod:`streamlight.evaluation.truth`: a yard that a camera watches, and a street driven at night."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from streamlight.evaluation.truth_world import Camera, Color, Light, Piece, Setting, Stripes, Surface, Vector

_MOON: Final = (0.020, 0.024, 0.032)
_SODIUM: Final = (1.0, 0.66, 0.33)
_COOL: Final = (0.85, 0.93, 1.0)
_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_WHITE: Final = (1.0, 1.0, 1.0)


def yard(time: float, *, shot: int, seed: int) -> Setting:
    """A yard between two walls: people to and fro, a car that passes, a lamp that goes on and off.

    Args:
        time: Seconds.
        shot: 0 or 1: from the gate, or down from the other corner.
        seed: Of colours, textures and who is where.
    """
    rng = np.random.default_rng([seed, 1])
    lamp = lamp_on("yard", time)
    pieces = [*_yard_walls(seed, rng), *_crates(seed, rng)]
    pieces += [
        Piece((3.4, -1.9, 8.5), (0.06, 1.9), Surface((0.2, 0.2, 0.22), 0.1), radius=0.05),
        Piece((3.4, -3.86, 8.5), (0.26, 0.12), Surface((0.3, 0.3, 0.3), glow=_scaled(_SODIUM, 30.0)), radius=0.12,
              power=float(lamp) + 0.002),
        Piece((-2.0, -2.75, 13.9), (0.16, 0.1), Surface((0.3, 0.3, 0.3), glow=_scaled(_COOL, 20.0)), radius=0.1),
    ]  # fmt: skip
    lights = [
        Light((3.4, -3.8, 8.4), _scaled(_SODIUM, 9.0 * lamp)),
        Light((-2.0, -2.7, 13.3), _scaled(_COOL, 3.0)),
    ]
    for number, (reach, depth, pace) in enumerate([(4.0, 6.2, 1.25), (5.0, 9.6, 1.0), (3.0, 11.8, 1.45)]):
        pieces += _person(time * pace + rng.uniform(0, 9), reach=reach, depth=depth, number=number, rng=rng, seed=seed)
    passing, beam = _passing_car(time, seed=seed)
    pieces += passing
    lights.append(beam)
    sway = 0.05 * math.sin(9.1 * time + seed), 0.04 * math.sin(7.3 * time)
    if shot:
        yaw = -33 + 4 * math.sin(0.45 * time) + sway[0]
        camera = Camera((6.6, -4.6, 1.5), yaw, -19 + sway[1], field_of_view=50)
    else:
        camera = Camera((-0.5, -3.2, -1.0), yaw=7 * math.sin(0.5 * time) + sway[0], pitch=-9 + sway[1])
    return Setting(camera, tuple(pieces), tuple(lights), _MOON)


def drive(time: float, *, shot: int, seed: int) -> Setting:
    """A street at 40 km/h: lamps, one of them broken, lit windows, a car ahead that brakes, oncoming headlights.

    Args:
        time: Seconds.
        shot: 0 or 1: two streets; in the second the camera looks at the houses to the left.
        seed: Of colours and textures.
    """
    rng = np.random.default_rng([seed, 2, shot])
    here = 11.0 * time + 2.0 * math.sin(0.4 * time)
    bump = math.sin(11.0 * time) * math.sin(1.7 * time + seed)
    camera = Camera(
        (1.7 + 0.25 * math.sin(0.3 * time), -1.35 + 0.012 * bump, here),
        yaw=1.2 * math.sin(0.35 * time) - 24.0 * shot,
        pitch=-1.0 + 0.14 * bump + 3.0 * shot,
        roll=0.12 * math.sin(8.0 * time),
        field_of_view=58.0,
    )
    pieces = _street(here, seed + 10 * shot, rng)
    lights: list[Light] = []
    for number in range(_POLES):
        place = _ahead(here, number * _POLE_EVERY, _POLES * _POLE_EVERY, behind=4.0)
        post, lamp = _pole(place, time, near=here)
        pieces += post
        lights.append(lamp)
    for number in range(4):
        place = _ahead(here, 21.0 * number + 5.0, 84.0, behind=3.0)
        pieces += _car((4.6, place), _paint(seed, number + 9), seed=seed + number, lamps=0.0, stern=True)
    for number in range(2):
        place = _ahead(here + 13.0 * time, 70.0 * number + 25.0, 140.0, behind=3.0) - 13.0 * time
        pieces += _car((-1.9, place), _paint(seed, number + 3), seed=seed + 5 + number, lamps=1.0, stern=False)
        lights.append(Light((-1.9, -0.7, place - 0.3), _scaled(_COOL, 12.0), (0.0, 0.04, -1.0), sharp=10.0))
    gap = 14.0 + 3.0 * math.sin(0.5 * time)
    brake = 1.0 if math.cos(0.5 * time) < -0.2 else 0.25
    pieces += _car((1.9, here + gap), _paint(seed, 1), seed=seed + 8, lamps=brake, stern=True)
    lights += [Light((x, -0.65, here + 1.0), _scaled(_WHITE, 22.0), (0.0, 0.05, 1.0), sharp=14.0) for x in (1.1, 2.3)]
    return Setting(camera, tuple(pieces), tuple(lights), _scaled(_MOON, 0.7))


def lamp_on(kind: str, time: float) -> bool:
    """Whether the lamp that switches is on: in the yard for 2.4 of 4 seconds; in the street it is broken."""
    if kind == "yard":
        return time % 4.0 < 2.4
    return time % 2.9 < 1.9 and not 0.7 < time % 2.9 < 0.9


_POLES: Final = 5
_POLE_EVERY: Final = 26.0


def _yard_walls(seed: int, rng: np.random.Generator) -> list[Piece]:
    paving = Stripes((0.10, 0.10, 0.10), (0.9, 0.0), (0.03, 0.0)), Stripes((0.10, 0.10, 0.10), (0.0, 0.9), (0.0, 0.03))
    mortar = Stripes((0.42, 0.40, 0.37), (0.0, 0.16), (0.0, 0.018))
    red = float(rng.uniform(0.32, 0.45))
    brick = Surface((red, 0.19, 0.14), 0.22, 0.7, (mortar,), seed=seed)
    plaster = Surface((0.46, 0.44, 0.38), 0.16, 2.0, seed=seed + 1)
    panes = Stripes((0.04, 0.05, 0.06), (3.2, 0.0), (1.1, 0.0), (-6.6, 0.0), _scaled((1.0, 0.8, 0.5), 0.3), 0.5)
    piers = Stripes((red, 0.19, 0.14), (3.2, 0.0), (2.1, 0.0), (-5.5, 0.0))
    band = Surface((0.05, 0.05, 0.06), 0.05, 1.0, (piers, panes), seed=seed + 2)
    return [
        Piece((0, -200, 900), (3000, 600), Surface((0, 0, 0), 0, glow=(0.006, 0.008, 0.013)), rank=-5),
        Piece((0, 0, 10), (60, 40), Surface((0.24, 0.23, 0.21), 0.22, 1.6, paving, seed=seed), _X, _Z, rank=-4),
        Piece((0, -2.6, 14), (9, 2.6), brick, rank=-3),
        Piece((0, -3.9, 13.98), (8.6, 0.55), band, rank=-2),
        Piece((-2.0, -1.05, 13.96), (0.55, 1.05), Surface((0.16, 0.22, 0.20), 0.1, 0.6, seed=seed), rank=-2),
        Piece((-8, -2.2, 7), (7, 2.2), plaster, _Z, _Y, rank=-1),
    ]


def _crates(seed: int, rng: np.random.Generator) -> list[Piece]:
    boards = Stripes((0.12, 0.08, 0.05), (0.0, 0.25), (0.0, 0.02))
    pieces = []
    for number, (x, z, side) in enumerate([(-5.2, 8.6, 0.6), (-4.0, 9.4, 0.45), (5.4, 11.5, 0.75)]):
        wood = Surface((0.42, 0.30 + float(rng.uniform(-0.04, 0.04)), 0.17), 0.25, 0.5, (boards,), seed=seed + number)
        foot = (x, 0.0, z)
        pieces += [
            Piece((x, -2 * side, z + side), (side, side), wood, _X, _Z, at=foot),
            Piece((x - math.copysign(side, x), -side, z + side), (side, side), wood, _Z, _Y, at=foot),
            Piece((x, -side, z), (side, side), wood, at=foot),
        ]
    return pieces


def _person(
    time: float, *, reach: float, depth: float, number: int, rng: np.random.Generator, seed: int
) -> list[Piece]:
    """Somebody who walks to and fro at one distance: head, trunk, arms and legs."""
    x = reach * math.sin(time * 1.3 / reach)
    step = x * 2.6  # the legs follow the way, not the time
    foot = (x, 0.0, depth)
    coat, cloth = (tuple(float(c) for c in rng.uniform(0.05, 0.6, 3)) for _ in range(2))
    look = Surface((coat[0], coat[1], coat[2]), 0.2, 0.3, seed=seed + number)
    legs = Surface((cloth[0] / 2, cloth[1] / 2, cloth[2] / 2), 0.15, 0.3, seed=seed + number)

    def limb(top: Vector, angle: float, length: float, wide: float, surface: Surface) -> Piece:
        down = (math.sin(angle), math.cos(angle), 0.0)
        centre = (top[0] + down[0] * length / 2, top[1] + down[1] * length / 2, depth)
        across = (math.cos(angle), -math.sin(angle), 0.0)
        return Piece(centre, (wide, length / 2), surface, across, down, radius=wide, at=foot)

    swing = 0.5 * math.sin(step)
    hip, shoulder = (x, -0.92, depth), (x, -1.42, depth)
    return [
        limb(shoulder, -0.8 * swing, 0.62, 0.06, look),
        limb(hip, -swing, 0.92, 0.085, legs),
        limb(hip, swing, 0.92, 0.085, legs),
        limb((x, -1.52, depth), 0.0, 0.72, 0.2, look),
        Piece((x, -1.68, depth), (0.115, 0.14), Surface((0.5, 0.36, 0.28), 0.1, 0.2), radius=0.115, at=foot),
        limb(shoulder, 0.8 * swing, 0.62, 0.06, look),
    ]


def _passing_car(time: float, *, seed: int) -> tuple[list[Piece], Light]:
    """A car that crosses the yard every nine seconds, with its headlights on."""
    way = (time + 1.5) % 9.0
    x, z = -13.0 + 4.2 * way, 12.6
    foot = (x, 0.0, z)
    body = Surface(_paint(seed, 0), 0.1, 1.2, seed=seed)
    glass = Surface((0.03, 0.04, 0.05), 0.05, 0.5)
    turn = x / 0.32
    spoke = Surface((0.05, 0.05, 0.05), 0.1, 0.3, (Stripes((0.4, 0.4, 0.4), (0.3, 0.0), (0.09, 0.0), (-0.045, 0.0)),))
    wheel = Piece((x, -0.32, z), (0.32, 0.32), spoke, (math.cos(turn), math.sin(turn), 0.0),
                  (-math.sin(turn), math.cos(turn), 0.0), radius=0.32, at=foot)  # fmt: skip
    pieces = [
        Piece((x - 0.1, -1.15, z), (1.15, 0.36), body, radius=0.25, at=foot),
        Piece((x - 0.1, -1.15, z), (0.95, 0.24), glass, radius=0.15, at=foot),
        Piece((x, -0.65, z), (2.1, 0.37), body, radius=0.2, at=foot),
        *(replace(wheel, centre=(x + side, -0.32, z)) for side in (-1.25, 1.3)),
        Piece((x + 2.02, -0.68, z), (0.09, 0.09), Surface(_WHITE, 0, glow=(8, 8, 8)), radius=0.09, at=foot),
        Piece((x - 2.03, -0.72, z), (0.07, 0.09), Surface((0.5, 0, 0), 0, glow=(2.5, 0.1, 0.1)), radius=0.07, at=foot),
    ]
    strength = 9.0 * min(1.0, way, 9.0 - way)  # it comes from far and goes far: its light does not appear at once
    return pieces, Light((x + 2.1, -0.65, z - 0.1), _scaled(_WHITE, strength), (1.0, 0.06, 0.0), sharp=10.0)


def _street(here: float, seed: int, rng: np.random.Generator) -> list[Piece]:
    tint = [float(c) for c in rng.uniform(0.2, 0.5, 4)]
    windows = Stripes((0.03, 0.04, 0.05), (3.4, 3.1), (1.3, 1.6), (0.0, 0.9), _scaled((1.0, 0.78, 0.45), 0.35), 0.22)
    seams = Stripes((0.1, 0.09, 0.08), (11.0, 0.0), (0.25, 0.0))
    left = Surface((tint[0], 0.30, tint[1] * 0.8), 0.2, 2.2, (seams, windows), seed=seed)
    right = Surface((tint[2], 0.32, tint[3] * 0.9), 0.2, 2.6, (seams, windows), seed=seed + 1)
    dashes = Stripes((0.62, 0.62, 0.58), (0.0, 9.0), (0.0, 3.6))
    road = Surface((0.11, 0.11, 0.115), 0.32, 0.9, seed=seed)
    walk = Surface((0.27, 0.26, 0.25), 0.2, 1.3, (Stripes((0.15, 0.15, 0.15), (0.0, 1.2), (0.0, 0.04)),), seed=seed + 3)
    line, edge = Surface((0.11, 0.11, 0.115), 0.1, 0.9, (dashes,)), Surface((0.55, 0.55, 0.52), 0.25, 0.8, seed=seed)
    far, middle = 510e3, 500e3  # a day of driving
    return [
        Piece((0, -300, here + 900), (3000, 800), Surface((0, 0, 0), 0, glow=(0.007, 0.008, 0.012)), rank=-5),
        Piece((0, 0, middle), (9, far), road, _X, _Z, rank=-4),
        Piece((0, 0, middle), (0.08, far), line, _X, _Z, rank=-3),
        *(Piece((x, 0, middle), (0.07, far), edge, _X, _Z, rank=-3) for x in (-5.4, 5.4)),
        *(Piece((x, 0, middle), (2.0, far), walk, _X, _Z, rank=-3) for x in (-7.8, 7.8)),
        Piece((-9.8, -5.5, middle), (far, 5.5), left, _Z, _Y, rank=0),
        Piece((9.8, -6.5, middle), (far, 6.5), right, _Z, _Y, rank=0),
    ]


def _pole(z: float, time: float, *, near: float) -> tuple[list[Piece], Light]:
    """A street lamp; every fourth is broken. Far ahead its light fades in, so that none appears from nowhere."""
    side = 1.0 if round(z / _POLE_EVERY) % 2 else -1.0
    on = lamp_on("drive", time) if round(z / _POLE_EVERY) % 4 == 2 else True
    fade = min(1.0, max(0.0, (_POLES * _POLE_EVERY - 4.0 - (z - near)) / 25.0))
    x, foot = 6.4 * side, (6.4 * side, 0.0, z)
    head = (x - 1.3 * side, -5.9, z)
    steel = Surface((0.22, 0.22, 0.24), 0.05, 1.0)
    pieces = [
        Piece((x, -3.0, z), (0.08, 3.0), steel, at=foot),
        Piece((x - 0.65 * side, -6.0, z), (0.7, 0.05), steel, at=foot),
        Piece(head, (0.3, 0.09), Surface((0.3, 0.3, 0.3), 0, glow=_scaled(_SODIUM, 40.0)), radius=0.09,
              power=on * fade + 0.001, at=foot),
    ]  # fmt: skip
    return pieces, Light((head[0], head[1] + 0.1, z), _scaled(_SODIUM, 16.0 * on * fade))


def _car(place: tuple[float, float], color: Color, *, seed: int, lamps: float, stern: bool) -> list[Piece]:
    """The end of a car that faces us, and the side that is seen past it; ``lamps`` is the power of its lights."""
    x, z = place
    foot = (x, 0.0, z)
    body = Surface(color, 0.12, 0.8, seed=seed)
    glass = Surface((0.03, 0.04, 0.05), 0.05, 0.4)
    shine = (3.0, 0.12, 0.08) if stern else (26.0, 26.0, 24.0)
    lamp = Surface((0.4, 0.05, 0.05) if stern else (0.7, 0.7, 0.7), 0, glow=shine)
    inner = x - math.copysign(0.86, x - 1.7) if abs(x - 1.7) > 1.0 else x - 0.86
    size = (0.13, 0.08) if stern else (0.11, 0.11)
    return [
        Piece((inner, -0.62, z + 2.1), (2.1, 0.36), body, _Z, _Y, radius=0.15, at=foot),
        Piece((inner, -1.12, z + 2.1), (1.5, 0.36), body, _Z, _Y, radius=0.25, at=foot),
        Piece((inner, -1.12, z + 2.1), (1.25, 0.22), glass, _Z, _Y, radius=0.12, at=foot),
        Piece((x, -1.12, z), (0.72, 0.34), body, radius=0.2, at=foot),
        Piece((x, -1.12, z), (0.6, 0.22), glass, radius=0.12, at=foot),
        Piece((x, -0.62, z), (0.88, 0.4), body, radius=0.14, at=foot),
        Piece((x, -0.5, z), (0.26, 0.07), Surface((0.7, 0.7, 0.66), 0.3, 0.12, seed=seed), at=foot),
        *(Piece((x + side, -0.72, z), size, lamp, radius=0.07, power=lamps, at=foot) for side in (-0.66, 0.66)),
    ]


def _ahead(here: float, start: float, cycle: float, *, behind: float) -> float:
    """The first place ``start + k cycle`` that is not more than ``behind`` behind us."""
    edge = here - behind
    return edge + (start - edge) % cycle


def _paint(seed: int, number: int) -> Color:
    red, green, blue = np.random.default_rng([seed, 3, number]).uniform(0.08, 0.55, 3)
    return float(red), float(green), float(blue)


def _scaled(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor
