"""Sizes, rotation, pixel aspect, changes in mid-stream, and still images."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from readclips import X264, ffmpeg, moving, needs_ffmpeg, packet_times, read, write_luma

from streamlight.media import open_source, probe
from streamlight.media.probing import rotation_matrix

RNG = np.random.default_rng(9)


@needs_ffmpeg
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_video_is_delivered_unturned_and_says_its_rotation(tmp_path: Path, degrees: int) -> None:
    plain = ffmpeg(tmp_path / "plain.mp4", *moving(), *X264)
    path = ffmpeg(tmp_path / "a.mp4", "-i", str(plain), "-c", "copy", "-metadata:s:v:0", f"rotate={degrees % 360}")
    info = probe(path)
    assert info.rotation % 360 == degrees % 360
    assert info.display_matrix is not None
    assert len(info.display_matrix) == 9
    assert info.display_matrix == rotation_matrix(degrees)
    assert (info.width, info.height) == (64, 48)
    for ours, theirs in zip(read(path), read(plain), strict=True):
        np.testing.assert_array_equal(ours.planes[0], theirs.planes[0])


@needs_ffmpeg
def test_upright_video_has_no_matrix(tmp_path: Path) -> None:
    info = probe(ffmpeg(tmp_path / "a.mp4", *moving(), *X264))
    assert (info.rotation, info.display_matrix) == (0, None)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_pixels_that_are_not_square(tmp_path: Path, name: str) -> None:
    path = ffmpeg(tmp_path / name, *moving(), "-vf", "setsar=16/11", *X264)
    info = probe(path)
    assert info.sample_aspect == Fraction(16, 11)
    assert (info.width, info.height) == (64, 48)


@pytest.mark.parametrize("codec", ["ffv1", "libvpx-vp9"])
@pytest.mark.parametrize(("width", "height"), [(33, 17), (1, 1), (3, 2), (17, 33)])
def test_odd_sizes(tmp_path: Path, width: int, height: int, codec: str) -> None:
    pictures = [(n * 40, np.full((height, width), 40 + 20 * n, np.uint8)) for n in range(3)]
    path = write_luma(tmp_path / "a.mkv", pictures, codec=codec)
    frames = read(path)
    assert [f.pts for f in frames] == [0, 40, 80]
    for frame, (_, luma) in zip(frames, pictures, strict=True):
        assert (frame.width, frame.height) == (width, height)
        assert frame.planes[1].shape == (-(-height // 2), -(-width // 2))
        assert np.abs(frame.planes[0].astype(int) - luma).max() <= (0 if codec == "ffv1" else 2)


@needs_ffmpeg
def test_size_change_in_mid_stream_is_scaled_to_the_first_and_counted(tmp_path: Path) -> None:
    # Annex B streams can be joined byte by byte.
    one = ffmpeg(tmp_path / "one.ts", *moving(size="64x48"), *X264)
    two = ffmpeg(tmp_path / "two.ts", *moving(size="96x64"), *X264, "-output_ts_offset", "1")
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    with open_source(path) as source:
        frames = list(source.frames())
        assert len(frames) == 50
        assert {(f.width, f.height) for f in frames} == {(64, 48)}
        assert {p.shape for f in frames for p in f.planes} == {(48, 64), (24, 32)}
        assert source.stats.rescaled == 25
        assert [f.pts for f in frames] == packet_times(path)
    # The content is that of the other size, not garbage: both clips show the same picture.
    ours, reference = frames[30].planes[0].astype(int), frames[5].planes[0].astype(int)
    assert np.abs(ours - reference).mean() < 25


@needs_ffmpeg
def test_format_and_range_change_in_mid_stream(tmp_path: Path) -> None:
    gray = moving(size="64x48", source="color=c=gray")
    one = ffmpeg(tmp_path / "one.ts", *gray, *X264, "-color_range", "tv")
    two = ffmpeg(
        tmp_path / "two.ts", *gray, "-vf", "scale=out_range=full", *X264, "-pix_fmt", "yuvj444p",
        "-output_ts_offset", "1",
    )  # fmt: skip
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.stats.rescaled == 25
    assert {p.shape for f in frames for p in f.planes} == {(48, 64), (24, 32)}
    assert abs(int(frames[40].planes[0][9, 9]) - int(frames[3].planes[0][9, 9])) <= 1


def exif(orientation: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    blocks = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_of_jpeg(tmp_path: Path, orientation: int, order: str) -> None:
    ok, data = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert ok
    body = b"Exif\0\0" + exif(orientation, order)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2].tobytes() + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:].tobytes())
    reference = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)  # turns it by itself
    (frame,) = read(path)
    np.testing.assert_array_equal(frame.planes[0], reference)
    info = probe(path)
    assert info.orientation == orientation
    assert (info.rotation, info.display_matrix) == (0, None)
    assert (info.height, info.width) == reference.shape


def test_turned_422_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    colours = np.zeros((40, 56, 3), np.uint8)
    colours[:20, :28], colours[:20, 28:], colours[20:, :28] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    ok, data = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422])
    assert ok
    body = b"Exif\0\0" + exif(6)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2].tobytes() + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:].tobytes())
    (frame,) = read(path)
    assert frame.color.chroma == "444"
    assert {p.shape for p in frame.planes} == {(56, 40)}
    reference = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2YCrCb).astype(int)
    for plane, channel in zip(frame.planes, (0, 2, 1), strict=True):
        assert np.abs(plane.astype(int) - reference[..., channel])[5:15, 5:15].max() <= 3


def test_exif_orientation_of_png_webp_and_tiff(tmp_path: Path) -> None:
    import zlib

    base = picture()
    png = cv2.imencode(".png", base)[1].tobytes()
    chunk = b"eXIf" + exif(6, ">")
    at = 8 + 25  # behind IHDR
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(png[:at] + chunk + png[at:])
    webp = cv2.imencode(".webp", base, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    frame_chunk = webp[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0, 63, 0, 0, 47, 0, 0])
    tag = exif(6)
    tag = b"EXIF" + struct.pack("<I", len(tag)) + tag
    body = b"WEBP" + extended + frame_chunk + tag
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    turned = np.rot90(base, -1)
    for name in ("a.png", "a.webp"):
        (frame,) = read(tmp_path / name)
        assert probe(tmp_path / name).orientation == 6
        assert frame.planes[0].shape == turned.shape
        scale = frame.color.peak / 255
        assert np.abs(frame.planes[0] / scale - turned).mean() < 12, name


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp"])
def test_still_images(tmp_path: Path, suffix: str) -> None:
    base = cv2.GaussianBlur(picture(), (9, 9), 0)
    colour = cv2.merge([base, base[::-1], base[:, ::-1]])
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), colour)
    info = probe(path)
    assert info.is_image
    (frame,) = read(path)
    assert (frame.width, frame.height, frame.index) == (64, 48, 0)
    decoded = cv2.imread(str(path)).astype(float)
    weights = (0.114, 0.587, 0.299) if suffix == ".jpg" else (0.0722, 0.7152, 0.2126)
    luma = decoded @ np.array(weights)
    offset, span = frame.color.luma_scale()
    assert np.abs((frame.planes[0] - offset) / span * 255 - luma).max() < 3


@pytest.mark.parametrize("name", ["100%.png", "a%03d.png", "b[1].png", "c?.png", "d:e.png", "-f.png", "é ü.png"])
def test_file_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    ok, data = cv2.imencode(".png", picture())
    assert ok
    (tmp_path / name).write_bytes(data.tobytes())
    assert len(read(tmp_path / name)) == 1
