"""``streamlight degrade`` on files: read back by other readers."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from streamlight.cli._main import run
from streamlight.errors import MediaError
from streamlight.training.degradation import DarkCamera, radiance
from tests.clips import make_clip, mean_luma, packets


def photo(path: Path, *, size: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Write a bright picture; returns its BGR samples."""
    source = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(size)
    pixels = np.stack([80 + 90 * x, 90 + 80 * y, 170 - 60 * x], -1) + source.normal(0, 12, (*size, 3))
    pixels = np.clip(pixels, 5, 250).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return pixels


def day_clip(path: Path, *, pts: list[int], size: tuple[int, int] = (64, 48), codec: str = "ffv1") -> Path:
    """A bright, still clip at given times (1/1000 s), written by PyAV."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time in pts:
            picture = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(picture.planes, (150, 120, 135), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def degrade(*arguments: object) -> int:
    return run(["degrade", *map(str, arguments)])


def note(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.with_name(path.name + ".json").read_text())
    return data


def ffprobe(path: Path, *entries: str) -> list[str]:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", *entries]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout.split()


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(float)


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_empty_parameters_leave_an_image_exactly_as_it_is(tmp_path: Path) -> None:
    before = photo(tmp_path / "day.png", size=(33, 47))
    (tmp_path / "none.json").write_text("{}")
    assert degrade(tmp_path / "day.png", "-o", tmp_path / "out.png", "--parameters", tmp_path / "none.json") == 0
    after = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert after.dtype == np.uint8
    assert np.array_equal(before, after)


def test_same_seed_same_file_and_the_parameters_are_written_beside_it(tmp_path: Path) -> None:
    photo(tmp_path / "day.png")
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert degrade(tmp_path / "day.png", "-o", tmp_path / f"{name}.png", "--seed", seed, "--exposure", "1/25") == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    written = note(tmp_path / "a.png")
    assert written["seed"] == 3
    assert written["input"] == "day.png"
    assert written["parameters"]["exposure"] == 1 / 25
    assert written["parameters"] != note(tmp_path / "c.png")["parameters"]
    assert cv2.imread(str(tmp_path / "a.png")).mean() < 100
    again = ("--seed", 3, "--parameters", tmp_path / "a.png.json")
    assert degrade(tmp_path / "day.png", "-o", tmp_path / "d.png", *again) == 0
    assert (tmp_path / "d.png").read_bytes() == a


def test_target_goes_with_the_dark_picture(tmp_path: Path) -> None:
    before = photo(tmp_path / "day.png")
    (tmp_path / "p.json").write_text('{"exposure": 0.02}')
    arguments = ("--parameters", tmp_path / "p.json", "--target", tmp_path / "bright.png")
    assert degrade(tmp_path / "day.png", "-o", tmp_path / "dark.png", *arguments) == 0
    assert np.array_equal(cv2.imread(str(tmp_path / "bright.png")), before)
    dark = cv2.imread(str(tmp_path / "dark.png")) / 255
    assert np.abs(dark - before / 255 * 0.02 ** (1 / 2.2)).max() < 0.004


def test_clip_keeps_its_times_and_sound(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "day.mp4", frames=14)
    dark = tmp_path / "dark.mp4"
    assert degrade(source, "-o", dark, "--seed", 1, "--exposure", "1/20", "--codec", "h264", "--quality", 20) == 0
    before, after = packets(source), packets(dark)
    assert sorted(p[1] for p in before if p[0] == 0) == sorted(p[1] for p in after if p[0] == 0)
    assert [p[5] for p in before if p[0] == 1] == [p[5] for p in after if p[0] == 1]
    assert mean_luma(dark) < mean_luma(source)
    written = note(dark)
    assert written["frames"] == 14
    assert written["parameters"]["coding"]["codec"] == "h264"
    assert ffprobe(dark, "stream=codec_name,pix_fmt,color_range") == ["h264,yuv420p,tv"]
    assert not leftovers(tmp_path)


def test_irregular_times_and_noise_that_is_new_in_every_frame(tmp_path: Path) -> None:
    times = [0, 40, 45, 130, 1000, 1001]
    source = day_clip(tmp_path / "day.mkv", pts=times)
    parameters = {"exposure": 0.1, "noise": {"shot": 1e-3, "read": 3e-3}}
    (tmp_path / "p.json").write_text(json.dumps(parameters))
    dark = tmp_path / "dark.mkv"
    assert degrade(source, "-o", dark, "--parameters", tmp_path / "p.json") == 0
    assert [round(float(t) * 1000) for t in ffprobe(dark, "packet=pts_time")] == times
    assert ffprobe(dark, "stream=codec_name") == ["ffv1"]
    noise = pictures(dark)
    noise = noise - noise.mean(axis=(1, 2), keepdims=True)
    assert noise.std() > 1
    table = np.corrcoef(noise.reshape(len(times), -1))
    assert np.abs(table - np.eye(len(times))).max() < 0.08


def test_uncompressed_is_the_same_in_every_container(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "day.mp4", frames=5, sound=False)
    found = []
    for suffix in ("mkv", "mp4", "mov", "avi", "ts"):
        dark = tmp_path / f"dark.{suffix}"
        assert degrade(source, "-o", dark, "--seed", 2, "--codec", "none", "--exposure", "1/3") == 0
        assert not any("matrix" in loss for loss in note(dark)["losses"])
        with av.open(str(dark)) as container:
            frames = list(container.decode(video=0))
        assert {int(frame.colorspace) for frame in frames} <= {1, 6}
        found.append([frame.to_ndarray(format="yuv420p") for frame in frames])
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert np.std(found[0]) > 1


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_encoder_that_is_asked_for_compresses(tmp_path: Path, codec: str) -> None:
    source = make_clip(tmp_path / "day.mp4", frames=6, sound=False)
    sizes = []
    for quality in (12, 42):
        dark = tmp_path / f"{quality}.mp4"
        assert degrade(source, "-o", dark, "--codec", codec, "--quality", quality, "--exposure", "1/3") == 0
        assert ffprobe(dark, "stream=codec_name") == [codec]
        sizes.append(sum(int(size) for size in ffprobe(dark, "packet=size")))
    assert sizes[1] < sizes[0] / 2


def test_target_of_a_clip(tmp_path: Path) -> None:
    source = day_clip(tmp_path / "day.mkv", pts=[0, 40, 80])
    # The matrix of the source, which has no tags and few lines, so that luma can be compared.
    (tmp_path / "p.json").write_text('{"exposure": 0.02, "coding": {"matrix": "smpte170m"}}')
    arguments = ("--parameters", tmp_path / "p.json", "--target", tmp_path / "bright.mkv")
    assert degrade(source, "-o", tmp_path / "dark.mkv", *arguments) == 0
    assert np.abs(pictures(tmp_path / "bright.mkv") - pictures(source)).max() <= 1
    assert pictures(tmp_path / "dark.mkv").mean() < 0.3 * pictures(source).mean()


def test_odd_clip_grows_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = day_clip(tmp_path / "day.mkv", pts=[0, 40], size=(65, 49))
    assert degrade(source, "-o", tmp_path / "dark.mp4", "--codec", "h264") == 0
    assert "66x50" in capsys.readouterr().err
    assert any("66x50" in loss for loss in note(tmp_path / "dark.mp4")["losses"])


def test_one_pixel(tmp_path: Path) -> None:
    photo(tmp_path / "dot.png", size=(1, 1))
    for seed in range(6):
        assert degrade(tmp_path / "dot.png", "-o", tmp_path / f"{seed}.png", "--seed", seed) == 0
        assert cv2.imread(str(tmp_path / f"{seed}.png")).shape == (1, 1, 3)


def test_folder_of_everything_with_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day, night = tmp_path / "day", tmp_path / "night"
    day.mkdir()
    photo(day / "one.png")
    photo(day / "two.jpg", seed=1)
    (day / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    make_clip(day / "film.mp4", frames=4, sound=False)
    assert cv2.imwrite(str(day / "map.hdr"), np.random.default_rng(0).uniform(0, 20, (16, 32, 3)).astype(np.float32))
    assert degrade(day, "-o", night, "--seed", 5, "--json", tmp_path / "all.json") == 1
    assert sorted(p.name for p in night.iterdir() if p.suffix != ".json") == [
        "film.mp4",
        "map.png",
        "one.png",
        "two.png",
    ]
    assert "broken.png" in capsys.readouterr().err
    reports = json.loads((tmp_path / "all.json").read_text())["reports"]
    assert [r["input"] for r in reports if r["error"]] == ["broken.png"]
    assert degrade(day / "one.png", "-o", tmp_path / "alone.png", "--seed", 5) == 0
    assert (tmp_path / "alone.png").read_bytes() == (night / "one.png").read_bytes()
    parameters = [r["parameters"]["exposure"] for r in reports if r["parameters"]]
    assert len(set(parameters)) > 1  # every file has a draw of its own


def test_radiance_map(tmp_path: Path) -> None:
    light = np.full((20, 30, 3), 3.0, np.float32)
    light[8:12, 8:12] = 900.0
    assert cv2.imwrite(str(tmp_path / "map.hdr"), light)
    (tmp_path / "p.json").write_text('{"exposure": 0.05}')
    assert degrade(tmp_path / "map.hdr", "-o", tmp_path / "dark.png", "--parameters", tmp_path / "p.json") == 0
    dark = cv2.imread(str(tmp_path / "dark.png"))
    assert dark[10, 10].min() == 255
    assert dark[0, 0].max() < 80


def test_openexr_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(radiance, "import_module", missing)
    (tmp_path / "map.exr").write_bytes(b"v/1\x01")
    with pytest.raises(MediaError, match="pip install OpenEXR"):
        radiance.read_radiance(tmp_path / "map.exr")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png", "-o", "out.png"], 1, ["missing.png", "does not exist"]),
        (["day.png", "-o", "day.png", "--overwrite"], 1, ["same file"]),
        (["day.png", "-o", "taken.png"], 1, ["exists already", "--overwrite"]),
        (["day.png", "-o", "no/where/out.png"], 1, ["does not exist"]),
        (["day.png", "-o", "out.png", "--exposure", "2"], 2, ["exposure", "1/25"]),
        (["day.png", "-o", "out.png", "--exposure", "1/0"], 2, ["exposure", "1/0"]),
        (["day.png", "-o", "out.png", "--exposure", "dark"], 2, ["exposure", "dark"]),
        (["day.png", "-o", "out.png", "--seed", "-1"], 2, ["seed", "-1"]),
        (["day.png", "-o", "out.png", "--codec", "h264", "--quality", "99"], 2, ["0 to 51", "99"]),
        (["day.png", "-o", "out.png", "--quality", "20"], 2, ["quality needs a codec"]),
        (["day.png", "-o", "out.png", "--parameters", "typo.json"], 2, ["typo.json", "exposur", "exposure"]),
        (["day.png", "-o", "out.png", "--parameters", "text.png"], 2, ["text.png"]),
        (["day.png", "-o", "out.png", "--parameters", "nowhere.json"], 2, ["nowhere.json", "does not exist"]),
        (["day.png", "-o", "out.png", "--target", "out.png"], 2, ["different names"]),
        (["day.png", "-o", "out.xyz"], 2, [".xyz"]),
        (["text.png", "-o", "out.png"], 1, ["text.png"]),
        (["damaged.hdr", "-o", "out.png"], 1, ["damaged.hdr"]),
        (["film.mp4", "-o", "out.webm"], 2, [".webm", "mkv"]),
        (["film.mp4", "-o", "out.mp4", "--codec", "jpeg"], 2, ["JPEG", "h264"]),
        (["empty", "-o", "out"], 1, ["empty", "no video or image"]),
        (["rtsp://host/x", "-o", "out.mp4"], 2, ["works on files"]),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else None,
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "day.png")
    photo(tmp_path / "taken.png")
    taken = (tmp_path / "taken.png").read_bytes()
    (tmp_path / "typo.json").write_text('{"parameters": {"exposur": 0.1}}')
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "damaged.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9")
    (tmp_path / "empty").mkdir()
    make_clip(tmp_path / "film.mp4", frames=3, sound=False)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert degrade(*arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(word in said for word in words), said
    assert "internal error" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "taken.png").read_bytes() == taken


def test_a_second_name_for_two_inputs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "day").mkdir()
    photo(tmp_path / "day" / "a.png")
    photo(tmp_path / "day" / "a.jpg")
    assert degrade(tmp_path / "day", "-o", tmp_path / "night") == 2
    assert "would both be written" in capsys.readouterr().err
    assert not (tmp_path / "night").exists()


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "day.mp4", frames=8, sound=False)
    record, calls = DarkCamera.record, []

    def interrupted(self: DarkCamera, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return record(self, *arguments, **keywords)

    monkeypatch.setattr(DarkCamera, "record", interrupted)
    assert degrade(source, "-o", tmp_path / "dark.mp4", "--target", tmp_path / "bright.mkv") == 130
    assert [entry.name for entry in tmp_path.iterdir()] == ["day.mp4"]
    monkeypatch.undo()
    assert degrade(source, "-o", tmp_path / "dark.mp4") == 0
