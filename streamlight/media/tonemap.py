"""HDR (PQ or HLG) to SDR BT.709, for those who ask for it.

Method, all on display light in cd/m²:

1. Y'CbCr to R'G'B' with the stream's matrix and range (ITU-R BT.2100).
2. PQ: the EOTF of SMPTE ST 2084. HLG: inverse OETF and OOTF of BT.2100 for a 1000 cd/m² display (system gamma 1.2).
3. The largest of R, G, B is brought from the source's peak to the SDR peak by the EETF of ITU-R BT.2390 (a Hermite
   knee in PQ space, black at 0), and R, G, B are scaled by that one ratio, which keeps the hue. The SDR peak stands
   for 203 cd/m², the reference white of ITU-R BT.2408, so that ordinary scenes keep their exposure.
4. BT.2020 to BT.709 primaries (ITU-R BT.2087). Colours outside BT.709 are moved towards gray of the same luminance
   until they fit (plain clipping would change their hue).
5. Inverse of the BT.1886 EOTF with black at 0 (gamma 2.4), then limited-range BT.709 Y'CbCr at 8 bit: what every SDR
   player and encoder takes.

The source's peak is its MaxCLL, else the peak of its mastering display, else 1000 cd/m².
"""

from __future__ import annotations

from typing import Any, cast

import av
import numba
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter

from streamlight.errors import MediaError
from streamlight.media import color
from streamlight.media.frame import ColorSpec
from streamlight.media.planes import EXACT_BICUBIC, view_planes

SDR_WHITE = 203.0
"""cd/m² that become SDR peak white (ITU-R BT.2408 HDR reference white)."""

PQ_PEAK = 10000.0
HLG_PEAK = 1000.0
HLG_GAMMA = 1.2

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A = 0.17883277
_HLG_B = 1 - 4 * _HLG_A
_HLG_C = 0.5 - _HLG_A * np.log(4 * _HLG_A)

_WEIGHTS = {"bt2020nc": (0.2627, 0.0593), "bt709": (0.2126, 0.0722)}
_TABLE = 65535
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2087-0, linear light
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)


def pq_eotf(signal: np.ndarray | float) -> np.ndarray:
    """SMPTE ST 2084 EOTF: signal in [0, 1] to display light in cd/m²."""
    power = np.asarray(signal, np.float64) ** (1 / _M2)
    return PQ_PEAK * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def pq_inverse(light: np.ndarray | float) -> np.ndarray:
    """SMPTE ST 2084 inverse EOTF: display light in cd/m² to a signal in [0, 1]."""
    power = (np.clip(np.asarray(light, np.float64), 0, PQ_PEAK) / PQ_PEAK) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_inverse_oetf(signal: np.ndarray | float) -> np.ndarray:
    """BT.2100 HLG inverse OETF: signal in [0, 1] to scene light in [0, 1]."""
    value = np.asarray(signal, np.float64)
    return np.where(value <= 0.5, value * value / 3, (np.exp((value - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def eetf(light: np.ndarray | float, source_peak: float, target_peak: float) -> np.ndarray:
    """The EETF of ITU-R BT.2390 with both blacks at 0.

    Args:
        light: Display light in cd/m², 0 to ``source_peak``.
        source_peak: Brightest light of the source in cd/m².
        target_peak: Brightest light of the target in cd/m².

    Returns:
        Display light in cd/m², 0 to ``target_peak``; unchanged below the knee, and everywhere if the source is no
        brighter than the target.
    """
    signal, peak = pq_inverse(light) / pq_inverse(source_peak), pq_inverse(target_peak) / pq_inverse(source_peak)
    if peak >= 1:
        return np.asarray(light, np.float64)
    knee = 1.5 * peak - 0.5
    t = (np.clip(signal, knee, 1) - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * peak
    return pq_eotf(np.where(signal < knee, signal, curve) * pq_inverse(source_peak))


def source_peak(picture: Any) -> float:
    """Brightest light of the source in cd/m²: MaxCLL, else the mastering display's peak, else 1000."""
    try:
        # ``picture.side_data`` would tie the picture into a reference cycle.
        data = {entry.type.name: bytes(entry) for entry in SideDataContainer(picture)}  # type: ignore[call-arg]
    except ValueError:  # side data that this PyAV has no name for
        data = {}
    light = data.get("CONTENT_LIGHT_LEVEL", b"")
    mastering = data.get("MASTERING_DISPLAY_METADATA", b"")
    peaks = []
    if len(light) >= 4:
        peaks.append(float(np.frombuffer(light, np.uint32, 1)[0]))
    if len(mastering) >= 88:
        # AVMasteringDisplayMetadata: ten rationals of chromaticity and least light, then max_luminance.
        top, bottom = np.frombuffer(mastering, np.int32, 2, 72)
        peaks.append(float(top) / float(bottom) if bottom else 0.0)
    return next((peak for peak in peaks if SDR_WHITE <= peak <= PQ_PEAK), 1000.0)


class ToneMapper:
    """Turns HDR pictures of one stream into SDR planes. Not thread-safe; one per stream.

    Attributes:
        spec: Colour of the delivered planes: BT.709, limited, 8 bit, chroma layout of the source.
    """

    def __init__(self, picture: Any, spec: ColorSpec) -> None:
        """Take transfer and peak from the first picture (``av.VideoFrame``) and its native ``ColorSpec``.

        Raises:
            MediaError: The matrix of the source is not one that this conversion knows.
        """
        if spec.matrix not in _WEIGHTS or color.pixel_layout(picture.format).rgb:
            raise MediaError(
                f"HDR in {picture.format.name} with the {spec.matrix} matrix cannot be converted to SDR; "
                "YCbCr with the bt2020nc matrix can"
            )
        self._native = spec
        chroma = spec.chroma
        self.spec = ColorSpec("bt709", "limited", "bt709", "bt709", 8, chroma, (1, 1, 1, 1))
        self._full = str(color.planar_format("444", spec.bit_depth))
        self._gray = chroma == "400"
        self._target = str(color.planar_format(chroma, 8))
        self._up, self._down = VideoReformatter(), VideoReformatter()
        hlg = spec.transfer == "arib-std-b67"
        peak = HLG_PEAK if hlg else source_peak(picture)
        self._top = HLG_PEAK if hlg else PQ_PEAK
        codes = np.arange(_TABLE + 1) / _TABLE
        self._decode = (hlg_inverse_oetf(codes) if hlg else pq_eotf(codes) / PQ_PEAK).astype(np.float32)
        light = codes**4 * self._top
        mapped = eetf(np.minimum(light, peak), peak, SDR_WHITE) / SDR_WHITE
        unit = np.full_like(mapped, self._top / SDR_WHITE)
        self._gain = np.divide(mapped, light / self._top, out=unit, where=light > 0).astype(np.float32)
        self._encode = (codes**2) ** (1 / 2.4)
        self._hlg = hlg

    def map(self, picture: Any) -> tuple[np.ndarray, ...]:
        """SDR planes of an HDR picture: uint8 Y, Cb, Cr.

        Args:
            picture: ``av.VideoFrame`` in the planar YCbCr format of the first one.
        """
        height, width = picture.height, picture.width
        if self._gray:
            luma = view_planes(picture, color.pixel_layout(picture.format))[0]
            middle = np.full_like(luma, 1 << (self._native.bit_depth - 1))
            return (self._convert(luma, middle, middle)[0],)
        wide = self._up.reformat(picture, format=self._full, interpolation=EXACT_BICUBIC, threads=1)
        luma, blue, red = self._convert(*view_planes(wide, color.pixel_layout(wide.format)))
        if self._native.chroma == "444":
            return luma, blue, red
        full = av.VideoFrame(width, height, "yuv444p")
        for plane, values in zip(full.planes, (luma, blue, red), strict=True):
            np.frombuffer(cast(Any, plane), np.uint8).reshape(height, plane.line_size)[:, :width] = values
        small = self._down.reformat(full, format=self._target, interpolation=EXACT_BICUBIC, threads=1)
        return (luma, *view_planes(small, color.pixel_layout(small.format))[1:])

    def _convert(self, *planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = planes[0].shape
        out = (np.empty(shape, np.uint8), np.empty(shape, np.uint8), np.empty(shape, np.uint8))
        offsets = np.array([*self._native.luma_scale(), *self._native.chroma_scale()], np.float32)
        red, blue = _WEIGHTS[self._native.matrix]
        to_709 = np.eye(3, dtype=np.float32) if self._native.primaries == "bt709" else _BT2020_TO_BT709
        kernel: Any = _kernel
        kernel(
            *(np.ascontiguousarray(plane) for plane in planes), *out, offsets, np.float32(red), np.float32(blue),
            self._decode, self._gain, self._encode.astype(np.float32), to_709, self._hlg,
        )  # fmt: skip
        return out


@numba.njit(nogil=True, cache=True, fastmath=False)
def _kernel(  # type: ignore[no-untyped-def]
    luma, cb, cr, out_y, out_cb, out_cr, scale, kr, kb, decode, gain, encode, to_709, hlg
):
    """Per pixel, all of the method above; tables are indexed by signal, by fourth root and by square root of light."""
    one, zero, top = np.float32(1), np.float32(0), np.float32(65535)
    kg = one - kr - kb
    rgb = np.empty(3, np.float32)
    for y in range(luma.shape[0]):
        for x in range(luma.shape[1]):
            signal = (luma[y, x] - scale[0]) / scale[1]
            blue = (cb[y, x] - scale[2]) / scale[3]
            red = (cr[y, x] - scale[2]) / scale[3]
            r = signal + np.float32(2) * (one - kr) * red
            b = signal + np.float32(2) * (one - kb) * blue
            g = (signal - kr * r - kb * b) / kg
            r = decode[int(min(max(r, zero), one) * top + np.float32(0.5))]
            g = decode[int(min(max(g, zero), one) * top + np.float32(0.5))]
            b = decode[int(min(max(b, zero), one) * top + np.float32(0.5))]
            if hlg:
                scene = np.float32(0.2627) * r + np.float32(0.6780) * g + np.float32(0.0593) * b
                system = scene ** np.float32(0.2)  # BT.2100: light = scene ** (1.2 - 1) * channel
                r, g, b = r * system, g * system, b * system
            peak = min(max(r, g, b), one)
            ratio = gain[int(np.sqrt(np.sqrt(peak)) * top + np.float32(0.5))]
            r, g, b = r * ratio, g * ratio, b * ratio
            for i in range(3):
                rgb[i] = to_709[i, 0] * r + to_709[i, 1] * g + to_709[i, 2] * b
            gray = min(np.float32(0.2126) * rgb[0] + np.float32(0.7152) * rgb[1] + np.float32(0.0722) * rgb[2], one)
            keep = one  # how much of the distance from gray fits into BT.709
            for i in range(3):
                if rgb[i] < zero:
                    keep = min(keep, gray / (gray - rgb[i]))
                elif rgb[i] > one:
                    keep = min(keep, (one - gray) / (rgb[i] - gray))
            for i in range(3):
                value = min(max(gray + keep * (rgb[i] - gray), zero), one)
                rgb[i] = encode[int(np.sqrt(value) * top + np.float32(0.5))]
            v = np.float32(0.2126) * rgb[0] + np.float32(0.7152) * rgb[1] + np.float32(0.0722) * rgb[2]
            half = np.float32(0.5)
            out_y[y, x] = np.uint8(np.float32(16) + np.float32(219) * v + half)
            out_cb[y, x] = np.uint8(np.float32(128) + np.float32(224) * (rgb[2] - v) / np.float32(1.8556) + half)
            out_cr[y, x] = np.uint8(np.float32(128) + np.float32(224) * (rgb[0] - v) / np.float32(1.5748) + half)


__all__ = ["SDR_WHITE", "ToneMapper", "eetf", "hlg_inverse_oetf", "pq_eotf", "pq_inverse", "source_peak"]
