"""What is done to a picture: one record of numbers, complete enough to do it again.

Lengths are relative to the picture, levels are linear light with 1 = the white of the dark picture, so that the same
record means the same for a crop of 128 pixels and for a 1080p clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from streamlight.config import suggestion
from streamlight.errors import ConfigError

Codec = Literal["none", "jpeg", "h264", "hevc"]
Sensor = Literal["camera", "phone", "dashcam", "surveillance", "none"]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


Real = Annotated[float, BeforeValidator(_no_bool)]
Share = Annotated[Real, Field(ge=0, le=1)]
Place = Annotated[Real, Field(ge=-2, le=3)]
Length = Annotated[Real, Field(gt=0, le=8)]
Gain = Annotated[Real, Field(gt=0, le=16)]
Triple = tuple[Gain, Gain, Gain]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class ToneCurve:
    """How a camera turns linear light into code values: ``S(x ** (1 / gamma))``.

    Attributes:
        gamma: Exponent, 1 to 4.
        contrast: Weight s of the S-curve ``S(v) = (1 - s) v + s (3 v² - 2 v³)``, 0 to 0.9.
    """

    gamma: Annotated[Real, Field(ge=1, le=4)] = 2.2
    contrast: Annotated[Real, Field(ge=0, le=0.9)] = 0.0


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class LightPool:
    """A Gaussian pool of light.

    Attributes:
        x, y: Centre; 0 to 1 is inside the picture.
        radius: Standard deviation, in long sides of the picture.
        strength: Light in its centre, 1 = as in the picture given.
    """

    x: Place
    y: Place
    radius: Length
    strength: Share = 1.0


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class UnevenLight:
    """Light ``L`` that is not the same everywhere: ``ambient + pools``, at most 1.

    Attributes:
        pools: Where the light falls.
        ambient: Light outside all pools.
        keep: The target is multiplied by ``L ** keep``: how much of the unevenness belongs to the scene. The target is
            never scaled up to make good for it: that would teach a network to burn out lit walls.
    """

    pools: tuple[LightPool, ...]
    ambient: Annotated[Real, Field(gt=0, le=1)]
    keep: Share


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Lamp:
    """A light source with its halo; it shines in the dark picture and in the target alike.

    Attributes:
        x, y: Centre; 0 to 1 is inside the picture.
        radius: Of the disc, in short sides.
        level: Light of the disc; above 1 it saturates.
        halo: Share of the level that the halo has in its middle.
        halo_radius: Where the halo has fallen to a third, in short sides.
        tint: Gains of R, G, B.
    """

    x: Place
    y: Place
    radius: Length
    level: Annotated[Real, Field(ge=0, le=64)]
    halo: Share = 0.0
    halo_radius: Length = 0.1
    tint: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Glow:
    """The brightest parts of the picture itself become light sources.

    Attributes:
        share: Share of the pixels, by luma.
        level: Light they get.
        halo: Share of it that is spread around them.
        halo_radius: Standard deviation of the spread, in short sides.
    """

    share: Annotated[Real, Field(gt=0, le=0.2)]
    level: Annotated[Real, Field(ge=0, le=64)]
    halo: Share = 0.0
    halo_radius: Length = 0.02


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class SensorNoise:
    """Noise of a sensor in linear light, Gaussian with variance ``g shot x + (g read)²`` for a channel of gain g.

    Attributes:
        sensor: Kind of camera the numbers were drawn for; for people, nothing is computed from it.
        shot: Variance per unit of light (the inverse of the full-well count at this gain).
        read: Standard deviation without light.
        row: Standard deviation of the offset that a whole row shares.
        shared: Share of the variance that the three channels have in common (demosaicking, luma processing).
        correlation: Standard deviation in pixels of the Gaussian that spreads the noise (demosaicking, scaling).
        gains: Channel gains g before white: R and B are amplified more than G.
        blotch: Standard deviation of low-frequency colour blotches, in units of the read noise.
        blotch_size: Their size in pixels.
    """

    sensor: Sensor = "none"
    shot: Annotated[Real, Field(ge=0, le=0.1)] = 0.0
    read: Annotated[Real, Field(ge=0, le=0.2)] = 0.0
    row: Annotated[Real, Field(ge=0, le=0.2)] = 0.0
    shared: Share = 0.0
    correlation: Annotated[Real, Field(ge=0, le=8)] = 0.0
    gains: Triple = (1.0, 1.0, 1.0)
    blotch: Annotated[Real, Field(ge=0, le=10)] = 0.0
    blotch_size: Annotated[int, BeforeValidator(_no_bool), Field(ge=2, le=256)] = 16

    @property
    def silent(self) -> bool:
        """Whether there is no noise at all."""
        return not (self.shot or self.read or self.row)


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Coding:
    """What storing the picture does to it; 8 bit always.

    Attributes:
        codec: Encoder it goes through; ``"none"`` leaves it uncompressed.
        quality: On the codec's own scale: JPEG 1 to 100 (best), H.264 and HEVC a constant rate factor 0 (best) to 51.
            None with ``"none"``.
        preset: Speed preset of x264 or x265.
        subsampled: Without a codec: whether chroma goes through 4:2:0 in limited range, as in any video.
        matrix: YCbCr matrix of that and of the video codecs.
        burst: Stills through a video codec: frames of the same view, each with noise of its own, of which the last is
            taken. Two or more show what inter prediction leaves of the dark.
    """

    codec: Codec = "none"
    quality: Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=100)] | None = None
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "veryfast"
    subsampled: bool = False
    matrix: Literal["bt709", "smpte170m"] = "bt709"
    burst: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _quality_fits(self) -> Coding:
        low, high = {"none": (None, None), "jpeg": (1, 100)}.get(self.codec, (0, 51))
        if low is None or high is None:
            if self.quality is not None:
                raise ValueError("codec 'none' has no quality")
        elif self.quality is None or not low <= self.quality <= high:
            raise ValueError(f"{self.codec} takes a quality from {low} to {high}, got {self.quality}")
        return self


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class DegradationParameters:
    """Everything that is done to one picture or clip. Without arguments: nothing but 8 bit.

    Attributes:
        exposure: Factor of the linear light, up to 1.
        brightness: Range of mean encoded luma that the target is pulled towards.
        pull: How far it is pulled, by a power of the encoded values: 0 not at all, 1 into the range.
        key: Mean encoded luma that the target of a radiance map is exposed for.
        curve: Tone curve that the picture is taken to have, inverted to get linear light, and of the target.
        low_curve: Tone curve of the dark picture.
        light: Uneven light.
        lamps: Light sources.
        glow: What of the picture itself shines.
        illuminant: Factors of R, G, B of the scene's light that the camera does not balance; the target stays neutral.
        blur: Standard deviation of the lens and scaler blur in pixels; the target stays sharp.
        black: Offset in linear light of a badly subtracted black level.
        noise: The sensor.
        pedestal: Offset of the encoded values (veiling glare, a raised black level).
        coding: How the dark picture is stored.
    """

    exposure: Annotated[Real, Field(gt=0, le=1)] = 1.0
    brightness: tuple[Share, Share] = (0.36, 0.55)
    pull: Share = 0.0
    key: Annotated[Real, Field(gt=0.02, lt=0.9)] = 0.45
    curve: ToneCurve = ToneCurve()
    low_curve: ToneCurve = ToneCurve()
    light: UnevenLight | None = None
    lamps: tuple[Lamp, ...] = ()
    glow: Glow | None = None
    illuminant: Triple = (1.0, 1.0, 1.0)
    blur: Annotated[Real, Field(ge=0, le=16)] = 0.0
    black: Annotated[Real, Field(ge=-0.1, le=0.1)] = 0.0
    noise: SensorNoise = SensorNoise()
    pedestal: Annotated[Real, Field(ge=0, le=0.2)] = 0.0
    coding: Coding = Coding()

    def to_json(self) -> dict[str, Any]:
        """Plain values, such that `from_json` gives an equal record."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, origin: str = "degradation parameters") -> DegradationParameters:
        """The inverse of `to_json`. Keys left out have their defaults.

        Args:
            data: As read from JSON or YAML.
            origin: Name of the file, for messages.

        Raises:
            ConfigError: Unknown key (the nearest known one is named), or a value that is not allowed.
        """
        try:
            return _ADAPTER.validate_python(data)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {_explain(error)}") from error


_ADAPTER: TypeAdapter[DegradationParameters] = TypeAdapter(DegradationParameters)


def _explain(error: ValidationError) -> str:
    kinds = (DegradationParameters, ToneCurve, LightPool, UnevenLight, Lamp, Glow, SensorNoise, Coding)
    known = [field.name for kind in kinds for field in fields(kind)]
    sentences = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            sentences.append(f"unknown key '{place}'{suggestion(str(problem['loc'][-1]), known)}")
        else:
            text = str(problem["msg"]).removeprefix("Value error, ")
            sentences.append(f"{place}: {text[0].lower()}{text[1:]}, got {str(problem['input'])[:60]}")
    return "; ".join(dict.fromkeys(sentences))
