"""Sound, subtitles, chapters, tags, covers, attachments and data: carried as they are, or named."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import av
import pytest
from making import constant, export, ffmpeg, ffprobe, packet_times, payloads

from streamlight.media import probe
from streamlight.media.encode import EncodeSettings
from streamlight.media.timeline import Window

CHAPTERS = """;FFMETADATA1
title=Yard at night
artist=Camera 4
[CHAPTER]
TIMEBASE=1/1000
START=0
END=700
title=Gate
[CHAPTER]
TIMEBASE=1/1000
START=700
END=2000
title=Street
"""
SUBTITLES = "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,500 --> 00:00:01,900\nBye\n"


def png(width=8, height=8):
    rows = b"".join(b"\0" + bytes([40, 90, 200] * width) for _ in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sources with one of everything, made once."""
    folder = tmp_path_factory.mktemp("everything")
    (folder / "tags.txt").write_text(CHAPTERS)
    (folder / "s.srt").write_text(SUBTITLES)
    (folder / "font.ttf").write_bytes(b"\0\1\0\0" + bytes(range(200)))
    (folder / "cover.png").write_bytes(png())
    inputs = [
        *("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-f", "lavfi", "-i", "sine=440:r=48000:d=2"),
        *("-f", "lavfi", "-i", "sine=880:r=44100:d=2", "-f", "lavfi", "-i", "testsrc2=s=32x32:r=10:d=2"),
        *("-i", folder / "s.srt", "-i", folder / "tags.txt"),
    ]
    common = [
        *("-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:v", "-map", "4:s", "-map_metadata", "5"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-metadata:s:a:0", "language=ger", "-metadata:s:a:1"),
        *("language=eng", "-metadata:s:s:0", "language=fre", "-disposition:a:0", "0", "-disposition:a:1", "default"),
    ]
    ffmpeg(
        *inputs, *common, "-c:a:0", "aac", "-c:a:1", "flac", "-c:s", "srt", "-disposition:s:0", "forced",
        "-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font",
        "-attach", folder / "cover.png", "-metadata:s:t:1", "mimetype=image/png", "-metadata:s:t:1",
        "filename=cover.png", "-metadata:s:a:0", "title=Yard", "-metadata", "CAMERA_SERIAL=4711", folder / "all.mkv",
    )  # fmt: skip
    ffmpeg(*inputs, *common, "-c:a", "aac", "-c:s", "mov_text", folder / "plain.mp4")
    ffmpeg(
        "-i", folder / "plain.mp4", "-i", folder / "cover.png", "-map", "0", "-map", "-0:d", "-map", "1", "-c", "copy",
        "-disposition:v:2", "attached_pic", folder / "cover.mp4",
    )  # fmt: skip
    return folder


def run(tmp_path, source, container, **more):
    target = tmp_path / f"o.{container}"
    return target, export(target, constant(50), source, info=probe(source), size=25, **more)


def kinds(path):
    with av.open(str(path)) as file:
        return [s.type for s in file.streams]


def test_everything_goes_from_mkv_to_mkv(tmp_path, folder):
    source = folder / "all.mkv"
    target, report = run(tmp_path, source, "mkv")
    assert report.not_carried == []
    assert [s.kind for s in report.carried] == ["audio", "audio", "video", "subtitle", "attachment", "cover"]
    assert [s.language for s in report.carried][:2] == ["ger", "eng"]
    assert all(s.packets > 0 and not s.dropped for s in report.carried)
    for index in (1, 2, 3, 4):
        assert payloads(target, index) == payloads(source, index)
        assert packet_times(target, str(index)) == packet_times(source, str(index))
    with av.open(str(source)) as a, av.open(str(target)) as b:
        assert [c["metadata"] for c in a.chapters()] == [c["metadata"] for c in b.chapters()]
        assert [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in a.chapters()] == [
            (c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in b.chapters()
        ]
        assert [int(s.disposition) for s in a.streams] == [int(s.disposition) for s in b.streams]
        assert [s.metadata.get("language") for s in a.streams] == [s.metadata.get("language") for s in b.streams]
        assert b.metadata["title"] == "Yard at night"
        assert b.metadata["CAMERA_SERIAL"] == "4711"
        assert b.streams[1].metadata["title"] == "Yard"
        fonts = [s for s in b.streams if s.type == "attachment"]
        assert fonts[0].data == (folder / "font.ttf").read_bytes()
        cover = next(s for s in b.streams if s.disposition & av.stream.Disposition.attached_pic)
        assert next(bytes(p) for p in b.demux(cover) if p.size) == png()


def test_what_mp4_cannot_hold_is_named(tmp_path, folder):
    target, report = run(tmp_path, folder / "all.mkv", "mp4")
    named = {entry.what: entry.why for entry in report.not_carried}
    assert any("subrip" in what and "mp4 cannot hold" in why for what, why in named.items())
    assert any("font.ttf" in what and "no attachments" in why for what, why in named.items())
    assert any("CAMERA_SERIAL" in what for what in named)  # cover art leaves no room for free tags
    assert [s.kind for s in report.carried] == ["audio", "audio", "video", "cover"]
    shown = ffprobe(target, "-show_chapters", "-show_format", "-show_streams")
    assert [c["tags"]["title"] for c in shown["chapters"]] == ["Gate", "Street"]
    assert shown["format"]["tags"]["title"] == "Yard at night"
    assert shown["streams"][-1]["disposition"]["attached_pic"] == 1 or any(
        s["disposition"]["attached_pic"] for s in shown["streams"]
    )


def test_free_tags_survive_in_mp4_when_there_is_no_cover(tmp_path, folder):
    source = tmp_path / "tags.mkv"
    ffmpeg("-i", folder / "all.mkv", "-map", "0:0", "-map", "0:1", "-c", "copy", source)
    target, report = run(tmp_path, source, "mp4")
    assert [entry.what for entry in report.not_carried] == ["tag of audio stream 1 'title'"]  # MP4 tracks have no title
    assert ffprobe(target, "-show_format")["format"]["tags"]["CAMERA_SERIAL"] == "4711"


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_mp4_with_subtitles_chapters_and_two_videos(tmp_path, folder, container):
    source = folder / "plain.mp4"
    target, report = run(tmp_path, source, container)
    # The chapter titles are a text track in MP4: written again as chapters, not copied as data.
    assert [entry.what.split()[0] for entry in report.not_carried] == ["data"]
    assert "chapters" in report.not_carried[0].why
    assert [s.kind for s in report.carried] == ["audio", "audio", "video", "subtitle"]
    assert payloads(target, 4) == payloads(source, 4)
    a, b = (ffprobe(p, "-show_chapters", "-show_streams") for p in (source, target))
    assert [c["tags"]["title"] for c in b["chapters"]] == ["Gate", "Street"]
    assert [c["start_time"] for c in a["chapters"]] == [c["start_time"] for c in b["chapters"]]
    for one, two in zip(a["streams"][:5], b["streams"][:5], strict=True):
        french = {"fre", "fra"}  # two codes of one language; QuickTime knows the latter
        assert (
            one["tags"]["language"] == two["tags"].get("language", "und")
            or {
                one["tags"]["language"],
                two["tags"]["language"],
            }
            == french
        )
        assert one["disposition"] == two["disposition"]
    shown = packet_times(target, "4")
    assert [(p, d) for p, _, d in shown] == [(p, d) for p, _, d in packet_times(source, "4")]


def test_cover_art_from_mp4(tmp_path, folder):
    source = folder / "cover.mp4"
    for container in ("mp4", "mkv"):
        target, report = run(tmp_path, source, container, overwrite=True)
        assert "cover" in [s.kind for s in report.carried]
        with av.open(str(target)) as file:
            (cover,) = [s for s in file.streams.video if s.disposition & av.stream.Disposition.attached_pic]
            assert next(bytes(p) for p in file.demux(cover) if p.size) == png()
    for container in ("ts", "mov"):
        _, report = run(tmp_path, source, container)
        assert any("no cover art" in entry.why for entry in report.not_carried)


def test_webm_takes_what_it_can(tmp_path, folder):
    source = tmp_path / "opus.mkv"
    ffmpeg("-i", folder / "all.mkv", "-map", "0:0", "-map", "0:1", "-map", "0:1", "-c:v", "copy", "-c:a:0", "libopus",
           "-c:a:1", "aac", source)  # fmt: skip
    target = tmp_path / "o.webm"
    report = export(target, constant(8), source, info=probe(source))
    assert [(s.kind, s.codec) for s in report.carried] == [("audio", "opus")]
    assert [entry.why for entry in report.not_carried] == ["webm cannot hold aac audio"]
    assert payloads(target, 1) == payloads(source, 1)


def test_transport_stream_refuses_what_nobody_could_read(tmp_path, folder):
    target, report = run(tmp_path, folder / "all.mkv", "ts")
    named = [entry.what for entry in report.not_carried]
    for word in ("flac", "subrip", "font.ttf", "chapters", "'title'"):
        assert any(word in what for what in named) or word == "'title'", word
    assert kinds(target).count("audio") == 1


def test_data_streams_travel_between_transport_streams(tmp_path):
    source = tmp_path / "klv.ts"
    with av.open(str(source), "w", format="mpegts") as file:
        video = file.add_stream("mpeg2video", rate=25)
        video.width, video.height = 64, 48
        data = file.add_data_stream("klv")
        data.time_base = Fraction(1, 90000)
        for index in range(20):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            file.mux(video.encode(picture))
            packet = av.Packet(b"\x06\x0e\x2b\x34" + bytes([index]) * 12)
            packet.pts = packet.dts = index * 3600
            packet.time_base, packet.stream = Fraction(1, 90000), data
            file.mux(packet)
        file.mux(video.encode(None))
    assert "data" in kinds(source)
    target, report = run(tmp_path, source, "ts")
    assert [(s.kind, s.codec, s.packets) for s in report.carried] == [("data", "klv", 20)]
    assert payloads(target, 1) == payloads(source, 1)
    _, report = run(tmp_path, source, "mkv")
    assert report.not_carried[0].what.startswith("data stream")


def test_sparse_subtitles_do_not_pile_up_packets(tmp_path):
    """libav holds packets back for silent streams; here nothing waits longer than the merge itself."""
    (tmp_path / "late.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nA\n\n2\n00:03:00,000 --> 00:03:01,000\nB\n")
    source = tmp_path / "sparse.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=s=16x16:r=5:d=181", "-i", tmp_path / "late.srt", "-map", "0", "-map", "1",
           "-c:v", "libx264", "-preset", "ultrafast", "-c:s", "srt", source)  # fmt: skip
    frames = constant(905, rate=Fraction(5))
    written = []
    target = tmp_path / "o.mkv"

    def watch(count):
        written.append((count, (tmp_path / ".o.mkv.part").stat().st_size))

    export(target, frames, source, info=probe(source), size=300, progress=watch, settings=EncodeSettings(codec="ffv1"))
    sizes = [size for _, size in written]
    # The file grows while the subtitle stream is silent for three minutes.
    assert sizes[-1] > sizes[len(sizes) // 2] > sizes[0]
    assert payloads(target, 1) == payloads(source, 1)


def test_chapters_follow_the_window(tmp_path, folder):
    source = folder / "plain.mp4"
    frames = [f for f in constant(50) if Fraction(1, 2) <= f.seconds < Fraction(3, 2)]
    report = export(
        tmp_path / "o.mkv", frames, source, info=probe(source), window=Window(Fraction(1, 2), Fraction(3, 2))
    )
    origin = frames[0].seconds
    shown = ffprobe(tmp_path / "o.mkv", "-show_chapters")["chapters"]
    assert [float(c["start_time"]) for c in shown] == [0.0, float(Fraction(7, 10) - origin)]
    assert float(shown[-1]["end_time"]) == float(Fraction(3, 2) - origin)
    assert report.shift == -origin


def test_tags_can_be_added(tmp_path, folder):
    target, _ = run(tmp_path, folder / "plain.mp4", "mkv", metadata={"comment": "enhanced"})
    assert ffprobe(target, "-show_format")["format"]["tags"]["COMMENT"] == "enhanced"
