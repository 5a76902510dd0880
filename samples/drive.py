"""A drive through a street at night: a small procedural renderer in linear light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import camera
import cv2
import numpy as np
import street

Array = np.ndarray

WIDTH, HEIGHT = 1280, 720
FOCAL = 1080.0  # pixels
HORIZON = 318.0
CENTRE = 640.0
EYE = (1.75, 1.25)  # camera: metres right of the middle of the road, metres above it
SPEED = 11.5  # metres a second
FAR = 170.0
SHUTTER = 1 / 50
LAMP_EVERY, LAMP_SIDE, LAMP_HEIGHT = 30.0, 4.6, 6.2
SODIUM = np.array([1.0, 0.66, 0.30], np.float32)
XENON = np.array([0.92, 0.96, 1.0], np.float32)
HALOGEN = np.array([1.0, 0.90, 0.72], np.float32)
NIGHT_SKY = np.array([0.016, 0.019, 0.030], np.float32)  # what falls on everything
EXPOSURE = 0.62  # of what would show the lit road well


@dataclass(frozen=True)
class Car:
    """Another car: ``side`` metres right of the middle, ``start`` metres ahead at first, closing at ``closing`` m/s."""

    side: float
    start: float
    closing: float
    oncoming: bool
    paint: tuple[float, float, float] = (0.10, 0.10, 0.11)

    def ahead(self, t: float) -> float:
        """Distance in metres at ``t`` seconds."""
        return self.start - self.closing * t + (0.8 * np.sin(0.9 * t) if not self.oncoming else 0.0)


CARS = (
    Car(1.75, 27.0, 0.0, False, (0.05, 0.05, 0.06)),
    Car(-1.75, 70.0, 24.0, True),
    Car(-1.85, 210.0, 26.0, True, (0.08, 0.08, 0.09)),
    Car(-1.75, 248.0, 26.0, True),
)
PARKED = tuple((5.0, 24.0 + 17.0 * k + (3.0 * (k % 3)), k) for k in range(40) if k % 4 != 2)
PAINTS = ((0.13, 0.13, 0.14), (0.03, 0.05, 0.11), (0.12, 0.03, 0.025), (0.035, 0.035, 0.035), (0.07, 0.10, 0.08))


class Street:
    """The textures and the renderer. One object renders any number of frames; a frame depends on ``t`` alone."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        self.ground = street.ground(rng)
        self.sides = {-1: street.houses(rng), 1: street.houses(rng)}
        self.green = {-1: street.greenery(rng), 1: street.greenery(rng)}
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        self.x, self.y = x, y
        self.dashboard = np.clip((y - (HEIGHT - 74) - 26 * ((x - 500) / 640) ** 2) / 5, 0, 1)[..., None]
        self.dirt = 0.75 + 0.5 * cv2.GaussianBlur(rng.random((HEIGHT, WIDTH), dtype=np.float32), (0, 0), 24)

    # ---- light -------------------------------------------------------------------------------------------------

    def light(self, where: tuple[Array, Array, Array], normal: tuple[float, float, float], t: float) -> Array:
        """Light on points ``where`` = (x right of camera, y above road, z ahead) of a surface: (..., 3) float32."""
        x, y, z = where
        out = np.broadcast_to(NIGHT_SKY, (*x.shape, 3)).copy()
        travelled = SPEED * t
        first = int(np.floor((travelled - 25) / LAMP_EVERY))
        for k in range(first, first + 6):
            lamp = np.array(
                [(LAMP_SIDE - 1.2) * (1 if k % 2 else -1) - EYE[0], LAMP_HEIGHT, k * LAMP_EVERY - travelled]
            )
            if k % 7 == 5:
                continue  # one that nobody repaired
            out += self._point(where, normal, lamp, 4.2)[..., None] * SODIUM
        for car in CARS:
            if car.oncoming and -2 < car.ahead(t) < 120:
                lamp = np.array([car.side - EYE[0], 0.65, car.ahead(t)])
                forward = np.clip(lamp[2] - z, 0, None)
                beam = np.exp(-(((x - lamp[0]) / (1.2 + 0.22 * forward)) ** 2)) * np.clip(forward / 5, 0, 1)
                out += (self._point(where, normal, lamp, 9.0) * beam)[..., None] * XENON
        # Our own headlights: two beams with a cut-off just under the horizon, reaching further at the kerb.
        for side in (-0.6, 0.6):
            dz = np.maximum(z + 1.4, 0.5)
            across, rise = (x - side) / dz, (y - 0.65) / dz
            cut = -0.012 + 0.05 * np.clip(across - 0.02, 0, 0.3)
            beam = np.exp(-((across / 0.32) ** 2)) / (1 + np.exp((rise - cut) / 0.006))
            beam = beam * (0.25 + np.exp(-(((rise + 0.03) / 0.05) ** 2))) + 0.012 * np.exp(-((across / 0.6) ** 2))
            out += (self._point(where, normal, np.array([side, 0.65, -1.4]), 34.0) * beam)[..., None] * HALOGEN
        return out

    @staticmethod
    def _point(
        where: tuple[Array, Array, Array], normal: tuple[float, float, float], lamp: Array, power: float
    ) -> Array:
        d = [lamp[i] - where[i] for i in range(3)]
        square = d[0] ** 2 + d[1] ** 2 + d[2] ** 2 + 0.2
        cosine = np.clip(sum(d[i] * normal[i] for i in range(3)), 0, None) / np.sqrt(square)
        return (power * (cosine + 0.02) / square).astype(np.float32)

    # ---- surfaces ----------------------------------------------------------------------------------------------

    @staticmethod
    def _sample(levels: tuple[Array, ...], u: Array, v: Array, blur: Array, axis: int) -> Array:
        """Texture lookup: ``u`` across or up, ``v`` along (texels); ``blur`` (1-d along ``axis``) picks the level."""
        shape = (*u.shape, levels[0].shape[2]) if levels[0].ndim == 3 else u.shape
        out = np.zeros(shape, np.float32)
        pick = np.searchsorted(np.array(street.LEVELS[1:]) * 0.8, blur)
        for level, texture in enumerate(levels):
            which = np.flatnonzero(pick == level)
            if len(which) == 0:
                continue
            part = (
                (slice(which[0], which[-1] + 1), slice(None))
                if axis == 0
                else (slice(None), slice(which[0], which[-1] + 1))
            )
            out[part] = cv2.remap(texture, u[part], v[part], cv2.INTER_LINEAR)
        return out

    def _shade(
        self, image: Array, colour: Array, light: Array, alpha: Array, z: Array, glow: Array | float = 0.0
    ) -> None:
        haze = np.exp(-np.clip(z, 0, None) / 140.0)[..., None]
        lit = (colour * light + glow) * haze + (1 - haze) * np.float32(0.0016) * SODIUM
        image += alpha[..., None] * (lit - image)

    def _ground(self, image: Array, t: float) -> None:
        top = int(HORIZON) + 6
        x, y = self.x[top:], self.y[top:]
        z = EYE[1] * FOCAL / (y - HORIZON)
        side = (x - CENTRE) * z / FOCAL
        keep = (np.abs(side + EYE[0]) < street.HALF - 0.1) & (z < FAR)
        along = ((z + SPEED * t) % street.LOOP) / street.ALONG
        u = (side + EYE[0] + street.HALF) / street.ACROSS
        rows = z[:, 0]
        blur = (np.maximum(rows**2 / (EYE[1] * FOCAL), SPEED * SHUTTER)) / street.ALONG
        colour = self._sample(self.ground.colour, u, along, blur, 0)
        q = (slice(None, None, 4), slice(None, None, 4))
        light = self.light((side[q], np.zeros_like(side[q]), z[q]), (0, 1, 0), t)
        light = cv2.resize(light, (x.shape[1], x.shape[0]), interpolation=cv2.INTER_LINEAR)
        self._shade(image[top:], colour, light, keep.astype(np.float32), z)

    def _wall(self, image: Array, texture: street.Texture, side: int, offset: float, t: float) -> None:
        """A wall along the street, ``offset`` metres right of the middle."""
        reach = offset - EYE[0]
        columns = np.arange(WIDTH, dtype=np.float32)
        away = (columns - CENTRE) * np.sign(reach)
        which = np.flatnonzero((away > abs(reach) * FOCAL / FAR) & (away > 0))
        part = slice(which[0], which[-1] + 1)
        z = abs(reach) * FOCAL / away[part]
        zz = np.broadcast_to(z, (HEIGHT, len(z))).astype(np.float32)
        up = EYE[1] - (self.y[:, part] - HORIZON) * zz / FOCAL
        along = (((zz + SPEED * t) % street.LOOP) / street.ALONG).astype(np.float32)
        blur = np.maximum(z**2 / (abs(reach) * FOCAL), SPEED * SHUTTER) / street.ALONG
        u = up / street.UP
        colour = self._sample(texture.colour, u, along, blur, 1)
        alpha = self._sample(texture.alpha, u, along, blur, 1) * ((up > 0) & (up < street.TOP))
        glow = self._sample(texture.glow, u, along, blur, 1) if texture.glow else 0.0
        q = (slice(None, None, 4), slice(None, None, 2))
        x = np.full_like(zz[q], reach)
        light = self.light((x, up[q], zz[q]), (-float(side), 0.0, 0.0), t)
        light = cv2.resize(light, (zz.shape[1], HEIGHT), interpolation=cv2.INTER_LINEAR)
        self._shade(image[:, part], colour, light, alpha, zz, glow)

    # ---- things that stand on the street -------------------------------------------------------------------------

    @staticmethod
    def _to_pixel(x: float, y: float, z: float) -> tuple[float, float]:
        return CENTRE + FOCAL * x / z, HORIZON - FOCAL * (y - EYE[1]) / z

    def _fill(self, image: Array, corners: list[tuple[float, float, float]], colour: Array | tuple[float, ...]) -> None:
        """A flat polygon in space (metres), one colour, anti-aliased; parts behind the camera are left out."""
        if min(c[2] for c in corners) < 0.6:
            return
        points = np.array([self._to_pixel(*c) for c in corners])
        low, high = np.floor(points.min(0)).astype(int) - 2, np.ceil(points.max(0)).astype(int) + 3
        low, high = np.maximum(low, 0), np.minimum(high, (WIDTH, HEIGHT))
        if (high <= low).any():
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [np.rint((points - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        alpha = (mask / np.float32(255))[..., None]
        part = image[low[1] : high[1], low[0] : high[0]]
        part += alpha * (np.asarray(colour, np.float32) - part)

    def _spot(self, image: Array, x: float, y: float, z: float, radius: float, colour: Array) -> None:
        """A round light of ``radius`` metres, at least half a pixel; far ones keep their total light."""
        if z < 0.6:
            return
        px, py = self._to_pixel(x, y, z)
        size = FOCAL * radius / z
        weight = min(1.0, (size / 0.8) ** 2)
        size = max(size, 0.8)
        reach = int(3 * size) + 2
        x0, x1, y0, y1 = (
            max(int(px) - reach, 0),
            min(int(px) + reach, WIDTH),
            max(int(py) - reach, 0),
            min(int(py) + reach, HEIGHT),
        )
        if x1 <= x0 or y1 <= y0:
            return
        gx, gy = np.arange(x0, x1) - px, np.arange(y0, y1) - py
        shape = np.exp(-(((gx[None] ** 2 + gy[:, None] ** 2) / size**2) ** 2)).astype(np.float32)
        image[y0:y1, x0:x1] += weight * shape[..., None] * colour

    def _lit(
        self, colour: tuple[float, ...], where: tuple[float, float, float], normal: tuple[float, float, float], t: float
    ) -> Array:
        point = tuple(np.array([v], np.float32) for v in where)
        return np.asarray(colour, np.float32) * self.light(point, normal, t)[0]

    def _lamp(self, image: Array, k: int, t: float) -> None:
        z = k * LAMP_EVERY - SPEED * t
        if not 1.5 < z < FAR:
            return
        sign = 1 if k % 2 else -1
        foot, head = sign * LAMP_SIDE - EYE[0], sign * (LAMP_SIDE - 1.2) - EYE[0]
        metal = self._lit((0.22, 0.22, 0.22), (foot, 1.5, z), (0, 0, -1), t) + np.float32(0.0004)
        self._fill(
            image,
            [(foot - 0.07, 0, z), (foot + 0.07, 0, z), (foot + 0.05, LAMP_HEIGHT, z), (foot - 0.05, LAMP_HEIGHT, z)],
            metal,
        )
        self._fill(
            image,
            [
                (foot, LAMP_HEIGHT - 0.1, z),
                (foot, LAMP_HEIGHT, z),
                (head, LAMP_HEIGHT + 0.25, z),
                (head, LAMP_HEIGHT + 0.15, z),
            ],
            metal,
        )
        if k % 7 != 5:
            self._spot(image, head, LAMP_HEIGHT, z, 0.17, 34.0 * SODIUM * np.exp(-z / 120))

    def _post(self, image: Array, k: int, t: float) -> None:
        """Roadside post with a retro-reflector: shines back what our headlights send, falling with the distance."""
        z = 20.0 * k + 9 - SPEED * t
        if not 1.5 < z < 110:
            return
        for x in (ROAD_LEFT, ROAD_RIGHT):
            white = self._lit((0.55, 0.55, 0.55), (x, 0.5, z), (0, 0, -1), t)
            self._fill(image, [(x - 0.05, 0, z), (x + 0.05, 0, z), (x + 0.05, 0.95, z), (x - 0.05, 0.95, z)], white)
            beam = np.exp(-(((x / z) / 0.32) ** 2)) * 700.0 / (z + 12) ** 2
            self._spot(
                image, x, 0.75, z, 0.045, np.float32(beam) * (np.array([1, 0.55, 0.15], np.float32) if x > 0 else XENON)
            )

    def _box(self, image: Array, x: float, z: float, paint: tuple[float, ...], t: float, *, dark: bool = False) -> None:
        """Body of a car whose near end is at ``z``: flank, end, cabin, glass, wheels. ``dark``: only its outline."""
        wide, long = 0.88, 4.2
        sign = 1.0 if x > 0 else -1.0
        inner, outer = x - sign * wide, x + sign * wide
        near, far = max(z, 0.7), z + long
        if far < 1.2:
            return
        flank = self._lit(paint, (inner, 0.7, near + 1), (-sign, 0, 0), t)
        end = self._lit(paint, (x, 0.6, near), (0, 0, -1), t) * (0.02 if dark else 1.0)
        glass = np.float32(0.0010) + 0.03 * flank
        shadow = [(inner - 0.12 * sign, 0, near - 0.1), (outer, 0, near - 0.1), (outer, 0.03, far), (inner, 0.03, far)]
        self._fill(image, shadow, (0.0005, 0.0005, 0.0006))
        strips = ((0.22, 0.40, 0.35), (0.40, 0.62, 0.8), (0.62, 0.78, 1.05), (0.78, 0.92, 1.35), (0.90, 0.96, 0.7))
        for low, high, shade in strips:  # a rounded flank: the shoulder sees more of the lamps than the sill
            self._fill(
                image, [(inner, low, near), (inner, high, near), (inner, high, far), (inner, low, far)], flank * shade
            )
        if z + 0.5 > 0.7:
            shell = [(0.93, 0.45), (1.22, 0.75), (1.40, 1.1), (1.45, 1.6), (1.44, 2.5), (1.36, 2.95), (0.93, 3.8)]
            pane = [(1.0, 0.8), (1.33, 1.15), (1.37, 1.6), (1.36, 2.45), (1.28, 2.85), (1.0, 3.3)]
            tilt = 0.16 * sign  # the cabin leans inwards
            self._fill(image, [(inner + tilt * (y - 0.93) * 2, y, z + dz) for y, dz in shell], flank * 0.9)
            self._fill(image, [(inner + tilt * (y - 0.93) * 2, y, z + dz) for y, dz in pane], glass)
        for wheel in (z + 0.8, z + 3.3):
            if wheel > 1.0:
                turn = np.linspace(0, 2 * np.pi, 16)
                for radius, colour in ((0.37, flank * 0), (0.31, flank * 0.1), (0.19, 0.4 * flank)):
                    rim = [(inner - 0.01 * sign, 0.31 + radius * np.sin(a), wheel + radius * np.cos(a)) for a in turn]
                    self._fill(image, rim, colour + np.float32(0.0006))
        if z > 1.2:
            self._end(image, x, z, end, glass)

    def _end(self, image: Array, x: float, z: float, end: Array, glass: Array) -> None:
        """The near end of a car: bumper, boot, cabin, glass, with the corners rounded."""
        cabin = [(0.80, 0.9), (0.74, 1.15), (0.60, 1.38), (0.45, 1.44)]
        pane = [(0.70, 0.97), (0.66, 1.14), (0.54, 1.33), (0.42, 1.37)]
        for outline, colour in ((cabin, end * 0.8), (pane, glass)):
            right = [(x + dx, y, z + 0.35 + 0.6 * (y - 0.9)) for dx, y in outline]
            left = [(x - dx, y, z + 0.35 + 0.6 * (y - 0.9)) for dx, y in reversed(outline)]
            self._fill(image, right + left, colour)
        rows = (
            (0.20, 0.36, 0.80, 0.12),
            (0.34, 0.52, 0.88, 0.7),
            (0.50, 0.66, 0.88, 1.0),
            (0.64, 0.80, 0.87, 0.85),
            (0.78, 0.93, 0.83, 1.2),
        )
        for low, high, half, shade in rows:
            self._fill(
                image,
                [(x - half, low, z), (x + half, low, z), (x + half - 0.01, high, z), (x - half + 0.01, high, z)],
                end * shade,
            )

    def _rear(self, image: Array, x: float, z: float, t: float, *, lights: bool) -> None:
        """Tail lights, or only their reflectors; number plate."""
        if z < 1.2:
            return
        plate = self._lit((0.5, 0.45, 0.2), (x, 0.5, z), (0, 0, -1), t)
        self._fill(image, [(x - 0.26, 0.42, z), (x + 0.26, 0.42, z), (x + 0.26, 0.54, z), (x - 0.26, 0.54, z)], plate)
        for dx in (-0.7, 0.7):
            red = self._lit((0.5, 0.03, 0.02), (x + dx, 0.75, z), (0, 0, -1), t) * 2
            self._fill(
                image,
                [
                    (x + dx - 0.13, 0.68, z),
                    (x + dx + 0.13, 0.68, z),
                    (x + dx + 0.13, 0.84, z),
                    (x + dx - 0.13, 0.84, z),
                ],
                red,
            )
            if lights:
                self._spot(image, x + dx, 0.76, z, 0.11, np.array([2.6, 0.10, 0.04], np.float32))
                self._streak(image, x + dx, 0.76, z, np.array([0.02, 0.001, 0.0005], np.float32))

    def _streak(self, image: Array, x: float, y: float, z: float, colour: Array) -> None:
        """The mirror image of a light on slightly wet asphalt: a soft vertical streak."""
        px, py = self._to_pixel(x, 0.0, z)
        length, width = 3.4 * FOCAL * y / z, max(FOCAL * 0.13 / z, 1.0)
        x0, x1 = max(int(px - 3 * width), 0), min(int(px + 3 * width) + 1, WIDTH)
        y0, y1 = max(int(py), 0), min(int(py + length), HEIGHT)
        if x1 <= x0 or y1 <= y0:
            return
        fall = np.exp(-((np.arange(y0, y1) - py) / (0.45 * length)))[:, None]
        image[y0:y1, x0:x1] += (fall * np.exp(-(((np.arange(x0, x1) - px) / width) ** 2)))[..., None].astype(
            np.float32
        ) * colour

    def _car(self, image: Array, car: Car, t: float) -> None:
        z, x = car.ahead(t), car.side - EYE[0]
        if not -3.5 < z < 230:
            return
        self._box(image, x, z, car.paint, t, dark=car.oncoming)
        if not car.oncoming:
            self._rear(image, x, z, t, lights=True)
            return
        for dx in (-0.62, 0.62):
            aim = np.exp(-((((x + dx) / max(z, 1.0) + 0.03) / 0.16) ** 2))  # we leave its beam when it is close
            self._spot(image, x + dx, 0.66, z, 0.10, (14 + 130 * np.float32(aim)) * np.exp(-z / 160) * XENON)
            self._streak(image, x + dx, 0.66, z, np.float32(0.05 * (0.2 + aim)) * XENON)

    # ---- the picture -------------------------------------------------------------------------------------------

    def radiance(self, t: float) -> Array:
        """The scene at ``t`` seconds: (H, W, 3) float32, linear, not clipped."""
        rise = np.clip((HORIZON - self.y) / HORIZON, 0, 1)[..., None]
        image = (0.0016 + 0.0035 * np.exp(-rise * 5)) * np.array([1.0, 0.82, 0.72], np.float32)
        image = image.astype(np.float32)
        for side in (-1, 1):
            self._wall(image, self.sides[side], side, side * 9.2, t)
        self._ground(image, t)
        for side in (-1, 1):
            self._wall(image, self.green[side], side, side * 6.6, t)
        things: list[tuple[float, Callable[[], None]]] = []  # distance, and what draws it
        for k in range(16):
            things.append((20.0 * k + 9 - SPEED * t, partial(self._post, image, k, t)))
        for k in range(12):
            things.append((k * LAMP_EVERY - SPEED * t, partial(self._lamp, image, k, t)))
        for car in CARS:
            things.append((car.ahead(t), partial(self._car, image, car, t)))
        for x, at, k in PARKED:
            if -3.5 < (z := at - SPEED * t) < 140:
                things.append((z, partial(self._parked, image, x - EYE[0], z, k, t)))
        for _, draw in sorted(things, key=lambda item: -item[0]):
            draw()
        return image

    def _parked(self, image: Array, x: float, z: float, k: int, t: float) -> None:
        self._box(image, x, z, PAINTS[k % len(PAINTS)], t)
        self._rear(image, x, z, t, lights=False)

    def picture(self, t: float, rng: np.random.Generator) -> Array:
        """What the dashcam records at ``t`` seconds: (720, 1280, 3) uint8 RGB."""
        scene = camera.bloom(self.radiance(t), weights=(0.07, 0.05, 0.035)) * self.dirt[..., None] ** 0.3
        board = 0.0005 + 0.004 * np.clip(1 - (HEIGHT - self.y[..., None]) / 80, 0, 1) * np.array(
            [0.5, 0.7, 1.0], np.float32
        )
        scene += self.dashboard * (board.astype(np.float32) - scene)
        shift = np.array([[1, 0, 1.2 * np.sin(2.1 * t)], [0, 1, 2.0 * np.sin(7.3 * t) + 1.3 * np.sin(12.1 * t + 1)]])
        scene = cv2.warpAffine(scene, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return camera.expose(
            scene * np.float32(EXPOSURE), rng, full_well=2600.0, read_noise=2.6, row_noise=0.3, black=0.0006
        )


ROAD_LEFT, ROAD_RIGHT = -4.0 - EYE[0], 4.0 - EYE[0]
