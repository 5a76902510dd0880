"""Low-light synthesis: dark pictures and clips out of photographs, radiance maps and clips, with their targets.

The order is that of the light: tone curve inverted, uneven light, exposure, colour of the light, lamps, lens blur,
black level, sensor noise, tone curve, pedestal, and storage (8 bit, 4:2:0, JPEG, H.264, HEVC).
"""

from streamlight.training.degradation.camera import DarkCamera, Pair, degrade_clip, degrade_image, degrade_still
from streamlight.training.degradation.coding import store
from streamlight.training.degradation.files import DegradeReport, DegradeSettings, degrade_files
from streamlight.training.degradation.motion import moving_view, perspective_view
from streamlight.training.degradation.noise import add_noise, noise_variance
from streamlight.training.degradation.parameters import (
    Coding,
    DegradationParameters,
    Glow,
    Lamp,
    LightPool,
    SensorNoise,
    ToneCurve,
    UnevenLight,
)
from streamlight.training.degradation.radiance import is_radiance_name, read_radiance
from streamlight.training.degradation.sampling import SENSORS, DegradationRanges, sample_parameters

__all__ = [
    "SENSORS",
    "Coding",
    "DarkCamera",
    "DegradationParameters",
    "DegradationRanges",
    "DegradeReport",
    "DegradeSettings",
    "Glow",
    "Lamp",
    "LightPool",
    "Pair",
    "SensorNoise",
    "ToneCurve",
    "UnevenLight",
    "add_noise",
    "degrade_clip",
    "degrade_files",
    "degrade_image",
    "degrade_still",
    "is_radiance_name",
    "moving_view",
    "noise_variance",
    "perspective_view",
    "read_radiance",
    "sample_parameters",
    "store",
]
