"""What the picture keeps: codec, depth, chroma, colour tags, pixel aspect, rotation, captions; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from making import BT709, constant, decoded, export, ffmpeg, ffprobe, write_segments

from streamlight.errors import ConfigError, DeviceError
from streamlight.media import codecs, encode, probe
from streamlight.media.encode import EncodeSettings, plan_encoder
from streamlight.media.frame import ColorSpec
from streamlight.media.mux import join

FAST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}
PAIRS = [
    (codec, suffix)
    for codec in ("h264", "hevc", "av1", "vp9", "ffv1", "prores")
    for suffix in ("mp4", "mov", "mkv", "webm", "avi", "ts")
    if codec in codecs.CODECS_OF[codecs.MUXERS[f".{suffix}"]]
]


def video(path):
    return ffprobe(path, "-select_streams", "v:0", "-show_streams")["streams"][0]


def settings_for(codec, **more):
    return EncodeSettings(codec=codec, preset=FAST.get(codec), **more)


@pytest.mark.parametrize(("codec", "suffix"), PAIRS)
def test_every_codec_in_every_container_it_goes_into(tmp_path, codec, suffix):
    frames = constant(5, color=ColorSpec(tags=BT709))
    target = tmp_path / f"o.{suffix}"
    report = export(target, frames, settings=settings_for(codec), size=3)
    stream = video(target)
    assert stream["codec_name"] == codec
    pictures = decoded(target)
    assert len(pictures) == 5
    lost = [entry.what for entry in report.not_carried]
    assert lost == [] or (codec, suffix) == ("ffv1", "avi")
    depth = 4 if codec == "prores" else 1
    for frame, picture in zip(frames, pictures, strict=True):
        luma = np.frombuffer(picture.planes[0], np.uint16 if depth == 4 else np.uint8)
        luma = luma.reshape(48, -1)[:, :64].astype(float) / depth
        assert np.abs(luma - frame.planes[0]).mean() < (0.01 if codec == "ffv1" else 8)
    if (codec, suffix) != ("ffv1", "avi"):  # AVI has no place for them and FFV1 does not repeat them
        shown = [stream.get(k) for k in ("color_range", "color_space", "color_transfer", "color_primaries")]
        assert shown == ["tv", "bt709", "bt709", "bt709"]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("tags", [(2, 0, 2, 2), (5, 1, 5, 6), (6, 1, 6, 6), (9, 1, 9, 1), (1, 2, 1, 13)], ids=str)
def test_colour_tags_come_back_as_they_were(tmp_path, suffix, tags):
    color = ColorSpec(tags=tags, range="full" if tags[1] == 2 else "limited")
    export(tmp_path / f"o.{suffix}", constant(2, color=color), settings=settings_for("h264"))
    with av.open(str(tmp_path / f"o.{suffix}")) as file:
        picture = next(file.decode(video=0))
        assert (picture.colorspace, picture.color_primaries, picture.color_trc) == (tags[0], tags[2], tags[3])
        assert picture.color_range == tags[1] or (tags[1] == 0 and picture.color_range in (0, 1))


def test_full_range_without_tags_is_marked(tmp_path):
    color = ColorSpec(range="full")
    export(tmp_path / "o.mp4", constant(2, color=color))
    assert video(tmp_path / "o.mp4")["color_range"] == "pc"


@pytest.mark.parametrize(
    ("codec", "chroma", "depth", "expected"),
    [
        ("h264", "420", 10, "yuv420p10le"),
        ("h264", "422", 8, "yuv422p"),
        ("h264", "422", 10, "yuv422p10le"),
        ("h264", "444", 8, "yuv444p"),
        ("h264", "444", 10, "yuv444p10le"),
        ("h264", "400", 8, "yuv420p"),
        ("hevc", "400", 8, "gray"),
        ("ffv1", "400", 10, "gray10le"),
        ("hevc", "420", 12, "yuv420p12le"),
        ("hevc", "444", 10, "yuv444p10le"),
        ("av1", "420", 10, "yuv420p10le"),
        ("vp9", "440", 8, "yuv440p"),
        ("ffv1", "420", 16, "yuv420p16le"),
        ("ffv1", "411", 8, "yuv411p"),
        ("prores", "422", 10, "yuv422p10le"),
        ("prores", "444", 10, "yuv444p10le"),
    ],
)
def test_depth_and_chroma_are_kept(tmp_path, codec, chroma, depth, expected):
    color = ColorSpec(chroma=chroma, bit_depth=depth)
    suffix = "mov" if codec == "prores" else "mkv"
    report = export(tmp_path / f"o.{suffix}", constant(2, color=color), settings=settings_for(codec))
    assert decoded(tmp_path / f"o.{suffix}")[0].format.name == expected
    assert report.losses == []


@pytest.mark.parametrize(
    ("codec", "chroma", "depth", "words"),
    [
        ("h264", "420", 12, "12 bit reduced to 10 bit"),
        ("av1", "422", 8, "4:2:2 reduced to 4:2:0"),
        ("av1", "444", 12, "4:4:4 reduced to 4:2:0"),
        ("vp9", "420", 10, "10 bit reduced to 8 bit"),
    ],
)
def test_what_an_encoder_cannot_keep_is_named(tmp_path, codec, chroma, depth, words):
    color = ColorSpec(chroma=chroma, bit_depth=depth)
    report = export(tmp_path / "o.mkv", constant(2, color=color), settings=settings_for(codec))
    assert any(words in loss for loss in report.losses)


def test_a_conversion_keeps_the_brightness(tmp_path):
    color = ColorSpec(bit_depth=12, tags=BT709)
    frames = constant(2, color=color)
    for frame in frames:
        frame.planes = (np.full_like(frame.planes[0], 2400), *(np.full_like(p, 2048) for p in frame.planes[1:]))
    export(tmp_path / "o.mkv", frames)
    luma = np.frombuffer(decoded(tmp_path / "o.mkv")[0].planes[0], np.uint16).reshape(48, -1)[:, :64]
    assert np.abs(luma.astype(int) - 600).max() <= 2


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (65, 48), (33, 17)], ids=str)
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
def test_odd_sizes(tmp_path, size, codec):
    frames = constant(2, width=size[0], height=size[1])
    target = tmp_path / ("o.mov" if codec == "prores" else "o.mkv")
    report = export(target, frames, settings=settings_for(codec))
    picture = decoded(target)[0]
    if codec in ("vp9", "ffv1"):
        assert (picture.width, picture.height) == size
        assert report.losses == []
        return
    assert (picture.width - size[0], picture.height - size[1]) == (
        picture.width % 2 + size[0] % 2 * (picture.width > size[0]),
        size[1] % 2 * (picture.height > size[1]),
    )
    grown = (picture.width, picture.height) != size
    assert any("grew" in loss for loss in report.losses) == grown
    if codec == "h264":
        assert (picture.width, picture.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        luma = np.frombuffer(picture.planes[0], np.uint8).reshape(picture.height, -1)[:, : picture.width].astype(int)
        if size[0] % 2:
            assert np.abs(luma[:, -1] - luma[:, -2]).mean() < 12


@pytest.mark.parametrize(("codec", "suffix"), [p for p in PAIRS if p != ("ffv1", "avi")])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(10, 11)], ids=str)
def test_pixel_aspect(tmp_path, codec, suffix, aspect):
    frames = constant(2, width=110, height=72)
    target = tmp_path / f"o.{suffix}"
    report = export(target, frames, settings=settings_for(codec), plan={"sample_aspect": aspect})
    assert Fraction(video(target)["sample_aspect_ratio"].replace(":", "/")) == aspect
    assert report.losses == []
    assert len(decoded(target)) == 2


def test_pixel_aspect_that_avi_loses_is_named(tmp_path):
    report = export(
        tmp_path / "o.avi", constant(2), settings=settings_for("ffv1"), plan={"sample_aspect": Fraction(4, 3)}
    )
    assert any("pixel aspect 4/3" in entry.what for entry in report.not_carried)


def test_matroska_stays_readable_after_the_aspect_is_written(tmp_path):
    target = tmp_path / "o.mkv"
    export(target, constant(60), settings=settings_for("vp9"), plan={"sample_aspect": Fraction(64, 45)})
    with av.open(str(target)) as file:
        stream = file.streams.video[0]
        file.seek(int(2 / stream.time_base), stream=stream)  # the index still leads to its clusters
        assert next(file.decode(stream)).pts * stream.time_base <= 2
    assert len(decoded(target)) == 60


# -- rotation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_travels_as_a_tag(tmp_path, suffix, degrees):
    source = tmp_path / "turned.mp4"
    plain = tmp_path / "plain.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.2", "-c:v", "libx264", plain)
    _turn(plain, source, degrees)
    info = probe(source)
    assert info.rotation == degrees or abs(info.rotation) == 180
    target = tmp_path / f"o.{suffix}"
    export(target, constant(5), source, info=info)
    assert probe(target).rotation == info.rotation
    assert probe(target).display_matrix == info.display_matrix


def _turn(plain, target, degrees):
    with av.open(str(plain)) as a, av.open(str(target), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        stream.set_display_rotation(degrees)
        for packet in a.demux(video=0):
            if packet.size:
                packet.stream = stream
                b.mux(packet)


@pytest.mark.parametrize("suffix", ["avi", "ts"])
def test_rotation_that_cannot_travel_is_named_unless_the_pixels_were_turned(tmp_path, suffix):
    plain, source = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.2", "-c:v", "libx264", plain)
    _turn(plain, source, 90)
    for turned, named in ((False, True), (True, False)):
        report = export(
            tmp_path / f"o.{suffix}", constant(5), source, info=probe(source), pixels_turned=turned, overwrite=True
        )
        assert any("rotation" in loss for loss in report.losses) is named


# -- choice of encoder ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("prores", "x.webm"),
        ("h264", "x.webm"),
        ("vp9", "x.ts"),
        ("av1", "x.avi"),
        ("ffv1", "x.mov"),
        ("theora", "x.mkv"),
    ],
)
def test_wrong_combinations_say_what_is_possible(codec, name):
    with pytest.raises(ConfigError) as caught:
        codecs.check_codec(codec, name)
    assert "takes" in str(caught.value) or "known are" in str(caught.value)


def test_an_unknown_suffix_is_refused():
    with pytest.raises(ConfigError, match="suffix"):
        codecs.muxer_for("x.xyz")


def test_the_container_decides_the_default_codec():
    assert codecs.default_codec("a.webm") == "vp9"
    assert codecs.default_codec("a.mkv") == "h264"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quality": 52}, "0 to 51"),
        ({"quality": -1}, "0 to 51"),
        ({"preset": "warp"}, "ultrafast"),
        ({"codec": "ffv1", "quality": 3}, "lossless"),
        ({"codec": "prores", "preset": "fast"}, "has none"),
        ({"codec": "av1", "preset": "14"}, "12, 13"),
    ],
)
def test_numbers_outside_the_scale(settings, words):
    with pytest.raises(ConfigError, match=words):
        plan_encoder(
            EncodeSettings(**settings),
            constant(1)[0],
            container="x.mkv" if "prores" not in settings.values() else "x.mov",
        )


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="nvenc"):
        EncodeSettings(hardware="gpu")
    with pytest.raises(ConfigError, match="gop"):
        EncodeSettings(gop=0)


def test_quality_and_preset_reach_the_encoder(tmp_path):
    frames = constant(8, width=160, height=96)
    sizes = [
        sum(s.size for s in _segments(tmp_path / str(q), frames, EncodeSettings(quality=q, preset="ultrafast")))
        for q in (5, 40)
    ]
    assert sizes[0] > 2 * sizes[1]


def _segments(folder, frames, settings):
    folder.mkdir()
    return write_segments(folder / "s", frames, container="x.mkv", settings=settings)


def test_hardware_that_does_not_open_falls_back_and_says_so(monkeypatch):
    monkeypatch.setattr(encode, "encoder_exists", lambda name: name in ("h264_nvenc", "h264_qsv"))
    real = encode.try_encoder
    monkeypatch.setattr(
        encode, "try_encoder", lambda plan: None if plan.encoder == "libx264" and not real(plan) else "no device"
    )
    plan = plan_encoder(EncodeSettings(hardware="auto"), constant(1)[0], container="x.mp4")
    assert plan.encoder == "libx264"
    assert plan.fallbacks == ("h264_nvenc: no device", "h264_qsv: no device")
    with pytest.raises(DeviceError, match="nvenc"):
        plan_encoder(EncodeSettings(hardware="nvenc"), constant(1)[0], container="x.mp4")


def test_hardware_encoders_are_tried_for_real():
    plan = plan_encoder(EncodeSettings(), constant(1)[0], container="x.mp4")
    for name in ("h264_nvenc", "h264_qsv", "h264_vaapi"):
        if encode.encoder_exists(name):
            options = tuple(codecs.encoder_options(name, quality=None, preset=None, bframes=True).items())
            reason = encode.try_encoder(replace(plan, encoder=name, pix_fmt="nv12", options=options))
            assert reason is None or reason


# -- closed captions -----------------------------------------------------------------------------------------------


def captioned(path, pix_fmt="yuv420p"):
    """H.264 with an A/53 caption message in every picture, put in by hand."""
    plain = path.with_name("plain.h264")
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x48:r=25:d=0.4",
        "-pix_fmt",
        pix_fmt,
        "-c:v",
        "libx264",
        "-bf",
        "0",
        "-f",
        "h264",
        plain,
    )
    stream, count = b"", 0
    with av.open(str(plain)) as file:
        for packet in file.demux(video=0):
            if packet.size:
                body = b"\xb5\x00\x31GA94\x03" + bytes(
                    [0x40 | 2, 0xFF, 0xFC, 0x94, 0x2C + count, 0xFD, 0x80, 0x80, 0xFF]
                )
                message = b"\0\0\0\1\x06\x04" + bytes([len(body)]) + body + b"\x80"
                data = bytes(packet)
                at = max(data.find(b"\0\0\1\x65"), data.find(b"\0\0\1\x41"))
                at -= data[at - 1 : at] == b"\0"
                stream, count = stream + data[:at] + message + data[at:], count + 1
    path.write_bytes(stream)
    return count


def captions(path):
    return [bytes(item) for picture in decoded(path) for item in picture.side_data if item.type.name == "A53_CC"]


@pytest.mark.parametrize(("codec", "pix_fmt"), [("h264", "yuv420p"), ("hevc", "yuv420p"), ("h264", "yuv444p")])
def test_closed_captions_survive(tmp_path, codec, pix_fmt):
    """Also where the frames' planes no longer have the format of the decoder's picture."""
    source = tmp_path / "cc.h264"
    count = captioned(source, pix_fmt)
    assert len(captions(source)) == count
    frames = constant(count)
    for frame, picture in zip(frames, decoded(source), strict=True):
        frame.origin = picture
    infos = write_segments(tmp_path / "s", frames, container="x.mp4", settings=settings_for(codec))
    join(infos, None, tmp_path / "o.mp4")
    assert sum(info.captions for info in infos) == count
    assert captions(tmp_path / "o.mp4") == captions(source)
    luma = np.frombuffer(decoded(tmp_path / "o.mp4")[3].planes[0], np.uint8).reshape(48, -1)[:, :64]
    assert np.abs(luma.astype(int) - frames[3].planes[0]).mean() < 8  # the new picture, not the source's


def test_captions_that_cannot_be_written_are_named(tmp_path):
    source = tmp_path / "cc.h264"
    frames = constant(captioned(source))
    for frame, picture in zip(frames, decoded(source), strict=True):
        frame.origin = picture
    report = export(tmp_path / "o.mkv", frames, settings=settings_for("ffv1"), size=100)
    assert report.losses == [f"closed captions of {len(frames)} frames: ffv1 does not write them"]


def test_grey_frames_get_neutral_chroma_and_keep_their_levels(tmp_path):
    frames = constant(2, color=ColorSpec(chroma="400"))
    export(tmp_path / "o.mp4", frames, settings=EncodeSettings(quality=1))
    picture = decoded(tmp_path / "o.mp4")[0]
    luma, blue, red = (np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width] for p in picture.planes)
    assert np.abs(luma.astype(int) - frames[0].planes[0]).mean() < 1.5
    assert (blue == 128).all()
    assert (red == 128).all()
