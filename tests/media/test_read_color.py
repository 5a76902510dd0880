"""Colour, depth, chroma layout and pixel formats of the frames that are read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from readclips import X264, ffmpeg, moving, needs_ffmpeg, read, write_luma

from streamlight.media import ColorSpec, open_source, probe
from streamlight.media.color import color_spec, merge_tags, pixel_layout
from streamlight.media.planes import PlaneReader

RNG = np.random.default_rng(5)


def spec_of(path: Path) -> ColorSpec:
    with open_source(path) as source:
        frame = next(source.frames())
        assert frame.color == source.info.color
        assert [p.dtype for p in frame.planes] == [frame.color.dtype] * len(frame.planes)
        return frame.color


def luma_noise(shape: tuple[int, int], bits: int) -> np.ndarray:
    return RNG.integers(0, 1 << bits, shape).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize(
    ("pix_fmt", "chroma", "bits", "shape"),
    [
        ("yuv420p", "420", 8, (25, 33)), ("yuv422p", "422", 8, (49, 33)), ("yuv444p", "444", 8, (49, 65)),
        ("yuv440p", "440", 8, (25, 65)), ("yuv411p", "411", 8, (49, 17)), ("yuv410p", "410", 8, (13, 17)),
        ("yuv420p10le", "420", 10, (25, 33)), ("yuv422p10le", "422", 10, (49, 33)),
        ("yuv444p12le", "444", 12, (49, 65)), ("gray", "400", 8, None), ("gray10le", "400", 10, None),
    ],
)  # fmt: skip
def test_planar_formats_come_out_sample_by_sample(
    tmp_path: Path, pix_fmt: str, chroma: str, bits: int, shape: tuple[int, int] | None
) -> None:
    pictures = [(n, luma_noise((49, 65), bits)) for n in range(3)]  # odd in both directions
    path = write_luma(tmp_path / "a.mkv", pictures, pix_fmt=pix_fmt)
    frames = read(path)
    assert [f.color.chroma for f in frames] == [chroma] * 3
    assert [f.color.bit_depth for f in frames] == [bits] * 3
    for frame, (_, luma) in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.planes[0], luma)
        assert [p.shape for p in frame.planes[1:]] == ([shape] * 2 if shape else [])
        assert all((p == 1 << (bits - 1)).all() for p in frame.planes[1:])


def fill(pix_fmt: str, width: int, height: int, mask: int = 0xFFFF) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        raw = np.frombuffer(plane, np.uint8)
        raw[:] = RNG.integers(0, 256, raw.size, dtype=np.uint8)
        if mask != 0xFFFF:
            raw.view("<u2")[:] &= mask
    return frame


def planes_of(frame: av.VideoFrame) -> tuple[tuple[np.ndarray, ...], ColorSpec]:
    spec = color_spec(pixel_layout(frame.format), (2, 0, 2, 2), frame.height)
    return PlaneReader(frame, spec).read(frame), spec


def rows(frame: av.VideoFrame, number: int, dtype: str = "u1") -> np.ndarray:
    plane = frame.planes[number]
    return np.frombuffer(plane, dtype).reshape(plane.height, -1)


@pytest.mark.parametrize(("pix_fmt", "chroma_width"), [("nv12", 33), ("nv16", 33), ("nv24", 65)])
def test_semi_planar_8_bit_is_exact(pix_fmt: str, chroma_width: int) -> None:
    frame = fill(pix_fmt, 65, 49)
    (luma, cb, cr), spec = planes_of(frame)
    both = rows(frame, 1)
    assert spec.bit_depth == 8
    np.testing.assert_array_equal(luma, rows(frame, 0)[:, :65])
    np.testing.assert_array_equal(cb, both[:, 0 : 2 * chroma_width : 2])
    np.testing.assert_array_equal(cr, both[:, 1 : 2 * chroma_width : 2])


@pytest.mark.parametrize(("pix_fmt", "chroma_width"), [("p010le", 33), ("p210le", 33), ("p410le", 65)])
def test_semi_planar_10_bit_has_its_values_in_the_low_bits(pix_fmt: str, chroma_width: int) -> None:
    frame = fill(pix_fmt, 65, 49, mask=0xFFC0)
    (luma, cb, cr), spec = planes_of(frame)
    both = rows(frame, 1, "<u2") >> 6
    assert spec.bit_depth == 10
    np.testing.assert_array_equal(luma, rows(frame, 0, "<u2")[:, :65] >> 6)
    np.testing.assert_array_equal(cb, both[:, 0 : 2 * chroma_width : 2])
    np.testing.assert_array_equal(cr, both[:, 1 : 2 * chroma_width : 2])


@pytest.mark.parametrize(("pix_fmt", "first"), [("yuyv422", 0), ("uyvy422", 1)])
def test_packed_422_is_exact(pix_fmt: str, first: int) -> None:
    frame = fill(pix_fmt, 64, 48)
    (luma, cb, cr), spec = planes_of(frame)
    packed = rows(frame, 0)[:, :128]
    assert spec.chroma == "422"
    np.testing.assert_array_equal(luma, packed[:, first::2])
    np.testing.assert_array_equal(cb, packed[:, 1 - first :: 4])
    np.testing.assert_array_equal(cr, packed[:, 3 - first :: 4])


def back_to_rgb(planes: tuple[np.ndarray, ...], spec: ColorSpec, peak: int) -> np.ndarray:
    """Textbook BT.709 full range, independent of the code under test."""
    luma = planes[0] / spec.peak
    cb, cr = ((p.astype(float) - (1 << (spec.bit_depth - 1))) / spec.peak for p in planes[1:])
    red, blue = luma + 1.5748 * cr, luma + 1.8556 * cb
    green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152
    return np.rint(np.stack([red, green, blue], -1) * peak).astype(int)


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("rgb24", np.uint8), ("bgr24", np.uint8), ("gbrp", np.uint8)])
def test_rgb_survives_to_the_code(pix_fmt: str, dtype: type) -> None:
    picture = RNG.integers(0, 256, (64, 80, 3)).astype(dtype)
    picture[0, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    if pix_fmt != "rgb24":
        frame = frame.reformat(format=pix_fmt)
    planes, spec = planes_of(frame)
    assert (spec.matrix, spec.range, spec.chroma, spec.bit_depth) == ("bt709", "full", "444", 10)
    np.testing.assert_array_equal(back_to_rgb(planes, spec, 255), picture)


def test_rgb_of_more_than_8_bit_gets_more_bits() -> None:
    picture = RNG.integers(0, 1 << 16, (16, 16, 3)).astype(np.uint16)
    planes, spec = planes_of(av.VideoFrame.from_ndarray(picture, format="rgb48le"))
    assert spec.bit_depth == 16
    assert np.abs(back_to_rgb(planes, spec, 65535) - picture).max() <= 2


def test_alpha_is_left_out_and_named(tmp_path: Path) -> None:
    path = write_luma(tmp_path / "a.mkv", [(0, luma_noise((48, 64), 8))], pix_fmt="yuva420p")
    info = probe(path)
    assert info.alpha
    assert [len(f.planes) for f in read(path)] == [3]


@needs_ffmpeg
def test_10_bit_h265(tmp_path: Path) -> None:
    codec = ["-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le"]
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *codec)
    spec = spec_of(path)
    assert spec.bit_depth == 10
    luma = read(path)[3].planes[0]
    raw = ffmpeg(tmp_path / "a.yuv", "-i", str(path), "-vf", "select=eq(n\\,3)", "-frames:v", "1", "-f", "rawvideo")
    np.testing.assert_array_equal(luma, np.fromfile(raw, "<u2")[: 64 * 48].reshape(48, 64))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("pix_fmt", "tag", "expected"),
    [("yuv420p", "tv", "limited"), ("yuv420p", "pc", "full"), ("yuvj420p", None, "full"), ("yuv420p", None, "limited")],
)
def test_range(tmp_path: Path, pix_fmt: str, tag: str | None, expected: str) -> None:
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", pix_fmt]
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *codec, *(["-color_range", tag] if tag else []))
    assert spec_of(path).range == expected


@needs_ffmpeg
def test_jpeg_is_full_range_bt601_whatever_its_size(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.jpg", *moving(size="1280x720"), "-frames:v", "1")
    spec = spec_of(path)
    assert (spec.range, spec.matrix) == ("full", "bt470bg")


@needs_ffmpeg
@pytest.mark.parametrize(("size", "matrix"), [("64x718", "smpte170m"), ("64x720", "bt709")])
def test_untagged_video_stays_untagged_but_is_read_by_its_size(tmp_path: Path, size: str, matrix: str) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(seconds=0.2, size=size), *X264)
    spec = spec_of(path)
    assert spec.matrix == matrix
    assert (spec.tags[0], spec.tags[2], spec.tags[3]) == (2, 2, 2)


@needs_ffmpeg
def test_tags_are_read(tmp_path: Path) -> None:
    names = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "bt2020-10", "-color_range", "tv"]
    path = ffmpeg(tmp_path / "a.mkv", *moving(), *X264, *names)
    spec = spec_of(path)
    assert (spec.matrix, spec.primaries, spec.transfer, spec.range) == ("bt2020nc", "bt2020", "bt2020-10", "limited")
    assert spec.tags == (9, 1, 9, 14)


def test_a_mislabelled_rgb_matrix_counts_as_untagged() -> None:
    layout = pixel_layout(av.VideoFormat("yuv420p", 64, 48))
    assert color_spec(layout, (0, 1, 2, 2), 1080).matrix == "bt709"
    assert color_spec(layout, (0, 1, 2, 2), 480).tags[0] == 2


def test_frame_tags_come_before_stream_tags() -> None:
    assert merge_tags((2, 2, 2, 16), (9, 1, 9, 14)) == (9, 2, 9, 16)


@needs_ffmpeg
def test_8_bit_planes_are_views_of_the_decoder_and_read_only(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    with open_source(path) as source:
        frames = list(source.frames())
    for frame in frames:
        for plane, own in zip(frame.planes, frame.origin.planes, strict=True):
            assert plane.__array_interface__["data"][0] == own.buffer_ptr
            assert not plane.flags.writeable
    # The views outlive the source.
    assert len({frame.planes[0].tobytes() for frame in frames}) == len(frames)


def test_bottom_up_pictures_are_turned_over(tmp_path: Path) -> None:
    import cv2

    picture = RNG.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    path = tmp_path / "a.bmp"  # stored from the last line to the first
    cv2.imwrite(str(path), picture[..., ::-1])
    (frame,) = read(path)
    np.testing.assert_array_equal(back_to_rgb(frame.planes, frame.color, 255), picture)
