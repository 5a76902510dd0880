"""Bad input, choice of the stream, folders, and what is said about a file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from readclips import X264, ffmpeg, moving, needs_ffmpeg, read

from streamlight.errors import ConfigError, MediaError
from streamlight.media import list_inputs, open_source, probe, redact


def refused(path: Path | str) -> str:
    """The one-line message that opening gives; probe gives the same."""
    with pytest.raises(MediaError) as opened:
        open_source(path)
    with pytest.raises(MediaError) as probed:
        probe(path)
    message = str(opened.value)
    assert message == str(probed.value)
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "nope.mp4") == f"'{tmp_path}/nope.mp4' does not exist"


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert "is empty" in refused(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.txt", "a.png", "a.jpg", "a.nfo", "a.ans"])
@pytest.mark.parametrize("text", ["Just a few words.\n", "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n", "x" * 5000])
def test_text_that_calls_itself_a_video(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert str(tmp_path / name) in refused(tmp_path / name)


@pytest.mark.parametrize("size", [1, 16, 4096])
def test_noise(tmp_path: Path, size: int) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts", "a.h264", "a.jpg"):
        (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(size))
        refused(tmp_path / name)


def test_a_name_that_no_file_can_have() -> None:
    refused("a\0b.mp4")
    refused("x" * 5000)


@needs_ffmpeg
def test_sound_only(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", "-f", "lavfi", "-i", "sine=d=1")
    assert "holds no video (sound only)" in refused(path)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mp3"])
def test_cover_art_is_no_video(tmp_path: Path, name: str) -> None:
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), np.zeros((400, 400, 3), np.uint8))
    inputs = ["-f", "lavfi", "-i", "sine=d=1", "-i", str(cover), "-map", "0", "-map", "1"]
    path = ffmpeg(tmp_path / name, *inputs, "-c:v", "copy", "-disposition:v:0", "attached_pic")
    assert "cover art" in refused(path)


@needs_ffmpeg
def test_video_beside_cover_art(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), np.zeros((400, 400, 3), np.uint8))
    path = ffmpeg(
        tmp_path / "a.mp4", "-i", str(cover), *moving(), "-map", "0", "-map", "1", "-c:v:0", "copy", "-c:v:1",
        "libx264", "-disposition:v:0", "attached_pic",
    )  # fmt: skip
    info = probe(path)
    assert (info.width, info.height) == (64, 48)
    assert "attached_pic" in info.streams[1 - info.stream_index].dispositions
    assert len(read(path)) == 25


@needs_ffmpeg
@pytest.mark.parametrize(
    ("dispositions", "chosen"), [(("0", "default"), 1), (("default", "0"), 0), (("0", "0"), 1), (("default",) * 2, 1)]
)
def test_choice_among_several_video_streams(tmp_path: Path, dispositions: tuple[str, str], chosen: int) -> None:
    path = ffmpeg(
        tmp_path / "a.mkv", *moving(size="64x48"), *moving(size="96x64"), "-map", "0", "-map", "1", *X264,
        "-disposition:v:0", dispositions[0], "-disposition:v:1", dispositions[1],
    )  # fmt: skip
    info = probe(path)
    assert info.stream_index == chosen
    assert (info.width, info.height) == [(64, 48), (96, 64)][chosen]
    assert {(f.width, f.height) for f in read(path)} == {(info.width, info.height)}


@needs_ffmpeg
def test_what_probe_says_is_json(tmp_path: Path) -> None:
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(";FFMETADATA1\ntitle=Night\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=100\nEND=700\ntitle=One\n")
    path = ffmpeg(
        tmp_path / "a.mkv", *moving(rate="30000/1001"), "-f", "lavfi", "-i", "sine=d=1", "-i", str(chapters),
        "-map", "0", "-map", "1", "-map_metadata", "2", *X264, "-c:a", "aac", "-metadata:s:a:0", "language=deu",
    )  # fmt: skip
    info = probe(path)
    told = json.loads(json.dumps(info.to_json()))
    assert told["codec"] == "h264"
    assert told["average_rate"] == "30000/1001"
    assert told["metadata"]["title"] == "Night"
    assert told["chapters"][0]["start"] == "1/10"
    assert told["chapters"][0]["metadata"]["title"] == "One"
    assert [s["kind"] for s in told["streams"]] == ["video", "audio"]
    assert told["streams"][1]["language"] == "deu"
    assert told["color"]["matrix"] == "smpte170m"
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)], capture_output=True, check=True
    )
    for ours, theirs in zip(info.streams, json.loads(shown.stdout)["streams"], strict=True):
        assert (ours.codec, ours.kind) == (theirs["codec_name"], theirs["codec_type"])


@needs_ffmpeg
def test_open_source_says_the_same_as_probe(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    with open_source(path) as source:
        assert source.info == probe(path)


@needs_ffmpeg
def test_file_urls_and_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ffmpeg(tmp_path / "a b.mp4", *moving(), *X264)
    assert len(read(path.as_uri())) == 25  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    assert len(read("a b.mp4")) == 25  # type: ignore[arg-type]


def test_credentials_are_hidden() -> None:
    url = "rtsp://admin:p4ss@w0rd@127.0.0.1:1/live?token=abc&x=1"
    assert redact(url) == "rtsp://***@127.0.0.1:1/live?token=***&x=1"
    assert redact("cannot open 'http://u:p@h/a.mp4': gone") == "cannot open 'http://***@h/a.mp4': gone"
    assert redact("/home/me@work/a:b.mp4") == "/home/me@work/a:b.mp4"


def test_credentials_are_hidden_in_messages() -> None:
    message = refused("http://user:secret@127.0.0.1:9/a.mp4")
    assert "secret" not in message
    assert "user" not in message
    assert "http://***@127.0.0.1:9/a.mp4" in message


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="threads must be positive"):
        open_source(tmp_path, threads=0)
    with pytest.raises(ConfigError, match="max_damaged"):
        open_source(tmp_path, max_damaged=-1)


def test_folder_is_sorted_naturally(tmp_path: Path) -> None:
    for name in ("b10.png", "B9.jpg", "b1.mp4", "notes.txt", ".hidden.png", "c.MKV"):
        (tmp_path / name).touch()
    (tmp_path / "inside.mp4").mkdir()
    assert [Path(p).name for p in list_inputs(tmp_path)] == ["b1.mp4", "B9.jpg", "b10.png", "c.MKV"]


def test_folder_without_anything(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MediaError, match="holds no video or image files"):
        list_inputs(tmp_path)
    with pytest.raises(MediaError, match="does not exist"):
        list_inputs(tmp_path / "nope")


def test_file_and_address_stand_for_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.weird"
    path.touch()
    assert list_inputs(path) == [path]
    assert list_inputs("rtsp://h/live") == ["rtsp://h/live"]


def test_importing_the_room_does_not_load_libav() -> None:
    code = "import sys, streamlight.media; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_ffmpeg
def test_libav_never_writes_to_the_terminal(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    data = bytearray(path.read_bytes())
    data[2000:2600] = b"\xff" * 600
    path.write_bytes(data)
    code = (
        "import sys; from streamlight.media import open_source\n"
        "with open_source(sys.argv[1]) as s: print(sum(1 for _ in s.frames()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip().isdecimal()


@needs_ffmpeg
def test_closing_early_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    before = threading.active_count()
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        with open_source(path) as source:
            next(source.frames())
    assert threading.active_count() == before
    if files:
        assert len(list(Path("/proc/self/fd").iterdir())) <= files


@needs_ffmpeg
def test_reading_a_closed_source_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    with open_source(path) as source:
        frames = source.frames()
        kept = next(frames)
    with pytest.raises(MediaError, match="was closed"):
        list(frames)
    assert kept.planes[0].any()


@needs_ffmpeg
def test_closing_from_another_thread(tmp_path: Path) -> None:
    import threading

    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)

    def read_and_close_after(count: int, *, wait: bool) -> None:
        source = open_source(path)
        closer = threading.Thread(target=source.close)
        try:
            for number, _ in enumerate(source.frames()):
                if number == count:
                    closer.start()
                    if wait:
                        closer.join()
        finally:
            closer.join()

    for count in range(8):
        with pytest.raises(MediaError, match="was closed"):
            read_and_close_after(count, wait=True)
        with contextlib.suppress(MediaError):  # reading may come to its end first
            read_and_close_after(count, wait=False)
