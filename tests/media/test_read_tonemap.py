"""HDR is refused unless conversion is asked for, and the conversion follows the standards' formulas."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from readclips import ffmpeg, identity, keep, moving, needs_ffmpeg, position, read, write_luma

from streamlight.errors import MediaError
from streamlight.media import open_source, probe
from streamlight.media.tonemap import SDR_WHITE, eetf, hlg_inverse_oetf, pq_eotf, pq_inverse, source_peak

PQ_TAGS, HLG_TAGS, SDR_TAGS = (9, 1, 9, 16), (9, 1, 9, 18), (9, 1, 9, 14)


def ramp(width: int = 256, height: int = 16) -> np.ndarray:
    """Limited-range 10-bit luma from black to peak."""
    return np.tile(np.linspace(64, 940, width).round().astype(np.uint16), (height, 1))


def hdr(path: Path, tags: tuple[int, int, int, int], luma: np.ndarray | None = None, **more: object) -> Path:
    luma = ramp() if luma is None else luma
    pictures = [(40 * n, luma) for n in range(3)]
    return write_luma(path, pictures, pix_fmt="yuv420p10le", tags=tags, **more)  # type: ignore[arg-type]


def test_pq_formula_at_the_values_of_the_standard() -> None:
    # SMPTE ST 2084 / ITU-R BT.2100: signal of some display lights, from the tables of ITU-R BT.2408.
    for light, signal in ((0, 0.0), (100, 0.508), (203, 0.581), (1000, 0.752), (4000, 0.903), (10000, 1.0)):
        assert float(pq_inverse(light)) == pytest.approx(signal, abs=6e-4)
        assert float(pq_eotf(pq_inverse(light))) == pytest.approx(light, rel=1e-6, abs=1e-3)


def test_hlg_formula_at_the_values_of_the_standard() -> None:
    assert float(hlg_inverse_oetf(0.5)) == pytest.approx(1 / 12)
    assert float(hlg_inverse_oetf(1.0)) == pytest.approx(1.0, abs=1e-6)
    # ITU-R BT.2408: reference white of 203 cd/m2 is 75 % HLG on a 1000 cd/m2 display.
    assert 1000 * float(hlg_inverse_oetf(0.75)) ** 1.2 == pytest.approx(203, abs=1)


def test_eetf_is_smooth_monotonic_and_ends_at_the_target() -> None:
    light = np.linspace(0, 1000, 20001)
    out = eetf(light, 1000, SDR_WHITE)
    assert (np.diff(out) >= -1e-9).all()
    assert out[-1] == pytest.approx(SDR_WHITE, rel=1e-6)
    assert out[0] == 0
    knee = float(pq_eotf((1.5 * pq_inverse(SDR_WHITE) / pq_inverse(1000) - 0.5) * pq_inverse(1000)))
    below = light < knee
    assert below.any()
    np.testing.assert_allclose(out[below], light[below], rtol=1e-6)
    np.testing.assert_array_equal(eetf(light / 10, 100, SDR_WHITE), light / 10)


@pytest.mark.parametrize(("tags", "name"), [(PQ_TAGS, "PQ"), (HLG_TAGS, "HLG")])
def test_hdr_is_refused_with_a_way_out(tmp_path: Path, tags: tuple[int, int, int, int], name: str) -> None:
    path = hdr(tmp_path / "a.mkv", tags)
    with pytest.raises(MediaError, match=rf"HDR \({name}.*--tonemap"):
        open_source(path)
    info = probe(path)
    assert info.hdr is not None
    assert info.hdr.startswith(name)
    assert info.color.transfer in ("smpte2084", "arib-std-b67")


def test_wide_gamut_sdr_is_not_hdr(tmp_path: Path) -> None:
    path = hdr(tmp_path / "a.mkv", SDR_TAGS)
    assert probe(path).hdr is None
    assert read(path, tonemap=True)[0].color.bit_depth == 10


def expected_gray(signal: np.ndarray, transfer: str) -> np.ndarray:
    """8-bit BT.709 luma of gray, straight from the formulas in float64."""
    light = pq_eotf(signal) if transfer == "pq" else 1000 * hlg_inverse_oetf(signal) ** 1.2
    mapped = eetf(np.minimum(light, 1000), 1000, SDR_WHITE) / SDR_WHITE
    return 16 + 219 * mapped ** (1 / 2.4)


@pytest.mark.parametrize(("tags", "transfer"), [(PQ_TAGS, "pq"), (HLG_TAGS, "hlg")])
def test_gray_ramp_follows_the_formula(tmp_path: Path, tags: tuple[int, int, int, int], transfer: str) -> None:
    frames = read(hdr(tmp_path / "a.mkv", tags), tonemap=True)
    color = frames[0].color
    assert (color.matrix, color.range, color.primaries, color.transfer) == ("bt709", "limited", "bt709", "bt709")
    assert (color.bit_depth, color.chroma, color.tags) == (8, "420", (1, 1, 1, 1))
    assert [f.pts for f in frames] == [0, 40, 80]
    expected = expected_gray((ramp()[0] - 64) / 876, transfer)
    for frame in frames:
        assert np.abs(frame.planes[0].astype(float) - expected).max() <= 0.51
        assert all(np.abs(p.astype(int) - 128).max() <= 1 for p in frame.planes[1:])


def bt2020_code(rgb: tuple[float, float, float], light: float) -> tuple[int, int, int]:
    """10-bit limited PQ Y'CbCr (BT.2020) of a colour at a peak of ``light`` cd/m²."""
    red, green, blue = (float(pq_inverse(light * value)) for value in rgb)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    cb, cr = (blue - luma) / 1.8814, (red - luma) / 1.4746
    return round(64 + 876 * luma), round(512 + 896 * cb), round(512 + 896 * cr)


def to_rgb709(planes: tuple[np.ndarray, ...]) -> np.ndarray:
    luma, cb, cr = ((float(p[8, 8]) - o) / s for p, o, s in zip(planes, (16, 128, 128), (219, 224, 224), strict=True))
    red, blue = luma + 1.5748 * cr, luma + 1.8556 * cb
    return np.array([red, (luma - 0.2126 * red - 0.0722 * blue) / 0.7152, blue])


def solid(path: Path, code: tuple[int, int, int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = PQ_TAGS
        frame = av.VideoFrame(32, 32, "yuv444p10le")
        for plane, value in zip(frame.planes, code, strict=True):
            np.frombuffer(plane, "<u2")[:] = value
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


# Colours inside BT.709, as linear BT.709; their BT.2020 values follow from ITU-R BT.2087.
@pytest.mark.parametrize("rgb", [(1.0, 0.5, 0.25), (0.2, 0.9, 0.3), (0.1, 0.2, 0.8), (0.6, 0.6, 0.6), (1.0, 0.1, 0.1)])
@pytest.mark.parametrize("light", [20.0, 60.0])
def test_colours_below_the_knee_come_out_as_they_are(
    tmp_path: Path, rgb: tuple[float, float, float], light: float
) -> None:
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    wide = to_2020 @ np.array(rgb)
    (frame,) = read(solid(tmp_path / "a.mkv", bt2020_code(tuple(wide), light)), tonemap=True)
    expected = (np.array(rgb) * light / SDR_WHITE) ** (1 / 2.4)
    # Half a code of each 8-bit plane moves R, G or B by up to 0.006; a 10-bit PQ code in the dark about as much.
    assert np.abs(to_rgb709(frame.planes) - expected).max() < 0.016


@pytest.mark.parametrize("rgb", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0)])
@pytest.mark.parametrize("light", [50.0, 500.0, 4000.0])
def test_colours_outside_bt709_keep_their_luminance_and_stay_in_range(
    tmp_path: Path, rgb: tuple[float, float, float], light: float
) -> None:
    (frame,) = read(solid(tmp_path / "a.mkv", bt2020_code(rgb, light)), tonemap=True)
    got = to_rgb709(frame.planes)
    assert got.min() > -0.02
    assert got.max() < 1.02
    peak = float(eetf(min(light, 1000), 1000, SDR_WHITE)) / SDR_WHITE
    luminance = float(np.dot((0.2627, 0.6780, 0.0593), rgb)) * peak
    linear = np.clip(got, 0, 1) ** 2.4
    assert float(np.dot((0.2126, 0.7152, 0.0722), linear)) == pytest.approx(luminance, rel=0.1, abs=0.004)


MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(20000000,1)"


@needs_ffmpeg
@pytest.mark.parametrize(
    ("parameters", "peak"),
    [
        ("", 1000.0),
        (f":{MASTERING}", 2000.0),
        (f":{MASTERING}:max-cll=4000,400", 4000.0),
        (":max-cll=4000,400", 4000.0),
    ],
)
def test_peak_of_the_content_is_used(tmp_path: Path, parameters: str, peak: float) -> None:
    codec = ["-c:v", "libx265", "-pix_fmt", "yuv420p10le"]
    base = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1"
    path = ffmpeg(tmp_path / "a.mkv", *moving(0.2), *codec, "-x265-params", base + parameters)
    with open_source(path, tonemap=True) as source:
        frame = next(source.frames())
        assert source_peak(frame.origin) == peak


def test_unknown_matrices_are_refused(tmp_path: Path) -> None:
    path = hdr(tmp_path / "a.mkv", (14, 1, 9, 16))
    with pytest.raises(MediaError, match="ictcp"):
        open_source(path, tonemap=True)


def test_resume_with_tone_mapping(tmp_path: Path) -> None:
    path = hdr(tmp_path / "a.mkv", PQ_TAGS)
    full = read(path, tonemap=True)
    with open_source(path, tonemap=True, resume=position(full[0])) as source:
        assert identity([keep(f) for f in source.frames()]) == identity(full)[1:]
