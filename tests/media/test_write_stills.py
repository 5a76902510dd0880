"""Still images: samples, depth, alpha, orientation, profile and EXIF; and what a machine can do."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from making import constant, decoded, ffmpeg, ffprobe, make_frames

from streamlight.errors import ConfigError, MediaError
from streamlight.media import open_source, stillmeta
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.machine import capabilities
from streamlight.media.orientation import exif_block, exif_orientation
from streamlight.media.stills import ImageSink, source_depth, to_rgb, write_still

BASE = Fraction(1, 25)


def write_image(path, array, pix_fmt):
    """An image file from packed samples, by libav's own encoder."""
    codec = {".png": "png", ".tif": "tiff", ".bmp": "bmp"}[path.suffix]
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = array.shape[:2]
    context.pix_fmt, context.time_base = pix_fmt, BASE
    picture = av.VideoFrame.from_ndarray(array, format=pix_fmt)
    picture.pts, picture.time_base = 0, BASE
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)]))
    return path


def read(path):
    """The one frame of an image file, and what is known of it."""
    with open_source(path) as source:
        (frame,) = list(source.frames())
        return frame, source.info


def samples(path, pix_fmt):
    (picture,) = decoded(path)
    return picture.to_ndarray(format=pix_fmt) if picture.format.name != pix_fmt else picture.to_ndarray()


def noise(shape, dtype, seed=1):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rgb_comes_back_to_the_code(tmp_path, suffix):
    pixels = noise((37, 51, 3), np.uint8)
    frame, info = read(write_image(tmp_path / "in.png", pixels, "rgb24"))
    assert source_depth(frame) == 8
    report = write_still(frame, tmp_path / f"out{suffix}", info=info)
    assert np.array_equal(samples(tmp_path / f"out{suffix}", "rgb24"), pixels)
    assert report.losses == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen(tmp_path, suffix):
    pixels = noise((20, 30, 3), np.uint16)
    frame, info = read(write_image(tmp_path / "in.png", pixels, "rgb48be"))
    report = write_still(frame, tmp_path / f"out{suffix}", info=info)
    (picture,) = decoded(tmp_path / f"out{suffix}")
    assert picture.format.name.startswith("rgb48")
    # YCbCr has no more bits than RGB here, so the way there and back costs some of the 65536 codes.
    assert np.abs(picture.to_ndarray().astype(int) - pixels).max() <= 3
    assert report.losses == []


def test_ten_bit_video_frames_become_sixteen_bit_png(tmp_path):
    (frame,) = constant(1, color=ColorSpec(bit_depth=10, chroma="444"))
    frame.planes = tuple(np.full_like(p, v) for p, v in zip(frame.planes, (64 + 438, 512, 512), strict=True))
    report = write_still(frame, tmp_path / "o.png")
    assert report.pix_fmt == "rgb48be"
    assert np.abs(decoded(tmp_path / "o.png")[0].to_ndarray().astype(int) - 32768).max() <= 1
    report = write_still(frame, tmp_path / "o.jpg")
    assert any("10 bit reduced to 8" in loss for loss in report.losses)


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("rgba", np.uint8), ("rgba64be", np.uint16)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_untouched_while_the_picture_changes(tmp_path, pix_fmt, dtype, suffix):
    pixels = noise((24, 40, 4), dtype)
    frame, info = read(write_image(tmp_path / "in.png", pixels, pix_fmt))
    frame.planes = (np.minimum(frame.planes[0], frame.color.peak // 2), *frame.planes[1:])
    report = write_still(frame, tmp_path / f"out{suffix}", info=info)
    written = decoded(tmp_path / f"out{suffix}")[0].to_ndarray()
    assert np.array_equal(written[:, :, 3], pixels[:, :, 3])
    assert not np.array_equal(written[:, :, :3], pixels[:, :, :3])
    assert report.losses == []


def test_alpha_that_jpg_loses_is_named(tmp_path):
    frame, info = read(write_image(tmp_path / "in.png", noise((8, 8, 4), np.uint8), "rgba"))
    report = write_still(frame, tmp_path / "out.jpg", info=info)
    assert report.losses == ["alpha channel: .jpg holds none"]


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("gray", np.uint8), ("gray16be", np.uint16)])
def test_grey_stays_grey(tmp_path, pix_fmt, dtype):
    pixels = noise((16, 24), dtype)
    frame, info = read(write_image(tmp_path / "in.png", pixels, pix_fmt))
    assert write_still(frame, tmp_path / "out.png", info=info).pix_fmt == pix_fmt
    assert np.array_equal(decoded(tmp_path / "out.png")[0].to_ndarray(), pixels)


@pytest.mark.parametrize("layout", ["420", "422", "444"])
def test_jpeg_planes_go_in_as_they_are(tmp_path, layout):
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=1:r=1", "-frames:v", "1", "-pix_fmt", f"yuvj{layout}p", "-q:v", "2",
           tmp_path / "in.jpg")  # fmt: skip
    frame, info = read(tmp_path / "in.jpg")
    report = write_still(frame, tmp_path / "out.jpg", info=info, source=tmp_path / "in.jpg", quality=1)
    assert report.pix_fmt == f"yuvj{layout}p"
    a, b = decoded(tmp_path / "in.jpg")[0], decoded(tmp_path / "out.jpg")[0]
    for one, two in zip(a.planes, b.planes, strict=True):
        difference = np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(two, np.uint8)
        assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".bmp", ".tif"])
def test_a_video_frame_in_every_format(tmp_path, suffix):
    (frame,) = constant(1, color=ColorSpec(tags=(1, 1, 1, 1)))
    report = write_still(frame, tmp_path / f"o{suffix}")
    got = samples(tmp_path / f"o{suffix}", "rgb24").astype(int)
    assert got.shape == (48, 64, 3)
    assert np.abs(got - to_rgb(frame, 8)).mean() < (4 if suffix in (".jpg", ".webp") else 0.01)
    assert report.losses == []
    assert ffprobe(tmp_path / f"o{suffix}", "-show_streams")["streams"][0]["width"] == 64


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("full", [False, True])
def test_rgb_follows_matrix_and_range(matrix, full):
    """Against the definition (H.273) for a few colours, written out once more."""
    red, blue = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}[matrix]
    color = ColorSpec(matrix=matrix, range="full" if full else "limited", chroma="444")
    wanted = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [120, 30, 200]], float)
    r, g, b = (wanted / 255).T
    luma = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
    (black, span), (middle, swing) = ((0, 255), (128, 255)) if full else ((16, 219), (128, 224))
    planes = [np.clip(np.rint(v), 0, 255).astype(np.uint8)[None] for v in (
        black + span * luma, middle + swing * cb, middle + swing * cr)]  # fmt: skip
    frame = Frame(tuple(planes), color, pts=0, time_base=BASE)
    assert np.abs(to_rgb(frame, 8)[0].astype(int) - wanted).max() <= 2


# -- what travels with a picture -----------------------------------------------------------------------------------


def exif(orientation, order="<"):
    head = b"II*\0" if order == "<" else b"MM\0*"
    maker = b"Lantern\0"
    entries = struct.pack(order + "HHII", 0x010F, 2, len(maker), 8 + 2 + 24 + 4)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(order + "IH", 8, 2) + entries + struct.pack(order + "I", 0) + maker


def jpeg_with_exif(path, orientation, order="<"):
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=1:r=1", "-frames:v", "1", "-pix_fmt", "yuvj420p", "-q:v", "2", path)
    data = path.read_bytes()
    body = b"Exif\0\0" + exif(orientation, order)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 5])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_orientation_is_baked_and_the_rest_of_exif_stays(tmp_path, orientation, suffix, order):
    source = jpeg_with_exif(tmp_path / "in.jpg", orientation, order)
    assert exif_orientation(source) == orientation
    frame, info = read(source)
    target = tmp_path / f"out{suffix}"
    report = write_still(frame, target, info=info, source=source)
    assert report.losses == []
    assert exif_orientation(target) == 1
    assert b"Lantern" in exif_block(target)
    picture = decoded(target)[0]
    assert (picture.width, picture.height) == ((48, 64) if orientation >= 5 else (64, 48))
    assert picture.rotation == 0
    upright, _ = read(target)
    error = np.abs(to_rgb(upright, 8).astype(int) - to_rgb(frame, 8)).mean()
    assert error < 5


def test_alpha_is_turned_with_the_picture(tmp_path):
    pixels = noise((10, 20, 4), np.uint8)
    source = write_image(tmp_path / "in.png", pixels, "rgba")
    data, block = source.read_bytes(), exif(6)
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    source.write_bytes(data[:33] + chunk + data[33:])
    frame, info = read(source)
    write_still(frame, tmp_path / "out.png", info=info, source=source)
    assert np.array_equal(decoded(tmp_path / "out.png")[0].to_ndarray(), np.rot90(pixels, -1))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_colour_profile_goes_along(tmp_path, suffix):
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=1:r=1", "-frames:v", "1", "-pix_fmt", "rgb24", tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    profile = _profile()
    (tmp_path / "in.png").write_bytes(stillmeta.add_icc(data, profile, "png"))
    frame, info = read(tmp_path / "in.png")
    assert stillmeta.icc_profile(tmp_path / "in.png") == profile
    report = write_still(frame, tmp_path / f"out{suffix}", info=info, source=tmp_path / "in.png")
    assert report.losses == []
    assert stillmeta.icc_profile(tmp_path / f"out{suffix}") == profile
    shown = ffprobe(tmp_path / f"out{suffix}", "-show_frames")["frames"][0]["side_data_list"]
    assert "ICC profile" in [item["side_data_type"] for item in shown]
    report = write_still(frame, tmp_path / "out.bmp", info=info, source=tmp_path / "in.png")
    assert report.losses == ["colour profile: not written to .bmp"]


def _profile():
    """A minimal, well-formed ICC header with no tags, and a body large enough for two JPEG segments."""
    size = 80_000
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x04300000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(128 - len(head)) + struct.pack(">I", 0)
    return head + np.random.default_rng(2).integers(0, 256, size - len(head), np.uint8).tobytes()


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_are_complete_or_not_there(tmp_path):
    (frame,) = constant(1)
    (tmp_path / "o.png").write_bytes(b"mine")
    with pytest.raises(MediaError, match="--overwrite"):
        write_still(frame, tmp_path / "o.png")
    assert (tmp_path / "o.png").read_bytes() == b"mine"
    write_still(frame, tmp_path / "o.png", overwrite=True)
    with pytest.raises(MediaError, match="same file"):
        write_still(frame, tmp_path / "o.png", source=tmp_path / "o.png", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["o.png"]


@pytest.mark.parametrize(
    ("name", "quality", "words"), [("o.gif", None, "suffix"), ("o.png", 3, "lossless"), ("o.jpg", 0, "1 to 31")]
)
def test_wrong_use(tmp_path, name, quality, words):
    with pytest.raises(ConfigError, match=words):
        write_still(constant(1)[0], tmp_path / name, quality=quality)
    assert list(tmp_path.iterdir()) == []


def test_quality_changes_the_size(tmp_path):
    (frame,) = constant(1, width=160, height=96)
    for suffix, good, bad in ((".jpg", 1, 31), (".webp", 100, 1)):
        for name, quality in (("good", good), ("bad", bad)):
            write_still(frame, tmp_path / f"{name}{suffix}", quality=quality)
        assert (tmp_path / f"good{suffix}").stat().st_size > 1.5 * (tmp_path / f"bad{suffix}").stat().st_size


def test_a_folder_of_numbered_images(tmp_path):
    frames = make_frames([1, 1, 1], time_base=BASE)
    sink = ImageSink(tmp_path / "new" / "folder", suffix=".png", stem="yard")
    paths = [sink.write(frame) for frame in frames]
    assert [p.name for p in paths] == ["yard_000001.png", "yard_000002.png", "yard_000003.png"]
    assert sink.written == 3
    for frame, path in zip(frames, paths, strict=True):
        assert np.array_equal(samples(path, "rgb24"), to_rgb(frame, 8))


# -- the machine ---------------------------------------------------------------------------------------------------


def test_capabilities_are_tried_not_believed():
    found = capabilities()
    software = {e.encoder: e for e in found.encoders if not e.hardware}
    assert all(software[name].opens for name in ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"))
    assert all(bool(e.reason) != e.opens for e in found.encoders)
    assert all(e.containers for e in found.encoders)
    assert {"h264", "hevc", "av1", "vp9"} <= set(found.decoders)
    assert {".png", ".jpg", ".tif", ".webp", ".bmp"} <= set(found.still_formats)
    assert found.to_json()["encoders"][0]["encoder"] == "libx264"
