"""What the worlds of :mod:`streamlight.evaluation.truth` are made of: flat pieces, lights and a camera.

Metres; x to the right, y down, z ahead; the ground is y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[float, float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Stripes:
    """Bars of another colour that repeat.

    Attributes:
        color: Albedo of the bars.
        period, width: Metres; along ``u`` and ``v``. A period of 0 means everywhere along that axis.
        start: Where the first begins.
        glow: Light of the bars themselves.
        share: Share of the bars that glow, chosen by chance.
    """

    color: Color
    period: tuple[float, float]
    width: tuple[float, float]
    start: tuple[float, float] = (0.0, 0.0)
    glow: Color = (0.0, 0.0, 0.0)
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Surface:
    """What a piece looks like.

    Attributes:
        color: Albedo.
        grain: Standard deviation of its noise, relative; seen from near.
        wave: Wavelength of the coarsest noise, metres; five finer octaves follow.
        stripes: What is painted or built on it.
        glow: Light it sends out itself.
        seed: Of its noise.
    """

    color: Color
    grain: float = 0.25
    wave: float = 1.0
    stripes: tuple[Stripes, ...] = ()
    glow: Color = (0.0, 0.0, 0.0)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A rounded rectangle in space.

    Attributes:
        centre: Where it is.
        half: Half its size along its two axes.
        surface: What it looks like.
        across, down: Its axes, unit vectors at right angles.
        radius: Of its corners; as large as the smaller half it is a disc or a capsule.
        rank: Pieces of a higher rank are drawn later; of equal rank, the nearer ones, then the later ones of the list.
        power: Factor of its glow at this moment.
        at: What counts as its place when the nearer one is looked for; None for its centre.
    """

    centre: Vector
    half: tuple[float, float]
    surface: Surface
    across: Vector = (1.0, 0.0, 0.0)
    down: Vector = (0.0, 1.0, 0.0)
    radius: float = 0.0
    rank: int = 1
    power: float = 1.0
    at: Vector | None = None


@dataclass(frozen=True, slots=True)
class Light:
    """A source of light.

    Attributes:
        place: Where.
        color: Strength at a metre.
        ahead: Direction of a beam; None for all directions alike.
        sharp: The beam falls off by the cosine to this power.
        size: Metres within which it gets no brighter.
    """

    place: Vector
    color: Color
    ahead: Vector | None = None
    sharp: float = 8.0
    size: float = 0.7


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole; angles in degrees.

    Attributes:
        place: Where.
        yaw: To the right.
        pitch: Upwards.
        roll: Clockwise.
        field_of_view: Horizontal.
    """

    place: Vector
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    field_of_view: float = 62.0


@dataclass(frozen=True, slots=True)
class Setting:
    """The world at one moment; the same piece has the same number in every setting of a shot."""

    camera: Camera
    pieces: tuple[Piece, ...]
    lights: tuple[Light, ...]
    ambient: Color
