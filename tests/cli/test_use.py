"""The command line as it is used: exit codes, one clear line for every mistake, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from streamlight.pipelines.progress import Progress

import streamlight
from streamlight.cli._main import group, run
from streamlight.cli._progress import details, plain_line
from streamlight.config import options
from tests.clips import make_clip, packets, video_times


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "dark.mp4", frames=20)


def start(*args: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streamlight", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_help_lists_commands_without_importing_them():
    result = CliRunner().invoke(group, ["--help"])
    assert result.exit_code == 0
    for name in ("bench", "doctor", "enhance", "models", "probe"):
        assert name in result.output


@pytest.mark.parametrize("name", ["bench video", "doctor", "enhance", "probe"])
def test_every_command_has_help(name):
    result = CliRunner().invoke(group, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "--debug" in result.output, "common_options is missing"


def test_every_option_of_the_schema_is_in_the_help():
    text = "".join(CliRunner().invoke(group, [name, "--help"]).output for name in ("enhance", "live"))
    missing = [option.flag for option in options() if option.flag not in text]
    assert missing == []


def test_version(capsys):
    assert run(["--version"]) == 0
    assert streamlight.__version__ in capsys.readouterr().out


def test_as_a_module_and_as_a_script(tmp_path):
    done = subprocess.run([sys.executable, "-m", "streamlight", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    script = Path(sys.executable).with_name("streamlight")
    if script.exists():
        assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout == done.stdout


def test_enhance(clip, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    assert run(["enhance", str(clip), "-o", str(target), "--preset", "realtime"]) == 0
    said = lines(capsys)
    assert len(said) == 1
    assert "20 frames" in said[0]
    assert video_times(target) == video_times(clip)


def test_json_alone_on_stdout(clip, tmp_path):
    process = start("enhance", str(clip), "-o", str(tmp_path / "out.mp4"), "--json", "-")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["frames"]["out"] == 20


def test_json_file_of_one_and_of_many(clip, tmp_path, capsys):
    report = tmp_path / "r.json"
    assert run(["enhance", str(clip), "-o", str(tmp_path / "out.mp4"), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["status"] == "done"
    code = run(["enhance", str(clip), str(tmp_path / "no.mp4"), "-o", str(tmp_path / "f"), "--json", str(report), "-q"])
    assert code == 1
    reports = json.loads(report.read_text())["reports"]
    assert [r["status"] for r in reports] == ["done", "failed"]
    assert "no.mp4" in reports[1]["error"]
    said = lines(capsys)
    assert len([line for line in said if "no.mp4" in line]) == 1, said


def test_a_folder_names_the_bad_file_and_does_the_rest(clip, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(clip.read_bytes())
    (folder / "bad.mp4").write_text("text")
    assert run(["enhance", str(folder), "-o", str(tmp_path / "out")]) == 1
    said = lines(capsys)
    assert "2 files: 1 done, 1 failed" in said[-1]
    assert "bad.mp4" in said[-1]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.mp4"]


@pytest.fixture(scope="module")
def bad_inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "random.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    with av.open(str(folder / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        block.sample_rate = 8000
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    make_clip(folder / "good.mp4", frames=3, sound=False)
    return folder


BAD = [
    # input, output, more arguments, exit code, what the line says
    ("missing.mp4", "out.mp4", (), 1, "does not exist"),
    ("text.mp4", "out.mp4", (), 1, "text.mp4"),
    ("zero.mp4", "out.mp4", (), 1, "empty"),
    ("random.mkv", "out.mp4", (), 1, "random.mkv"),
    ("sound.mp4", "out.mp4", (), 1, "no video"),
    ("empty", "out", (), 1, "no video"),
    ("good.mp4", "out.xyz", (), 2, "xyz"),
    ("good.mp4", "out", (), 2, "suffix"),
    ("good.mp4", "no/such/out.mp4", (), 1, "does not exist"),
    ("good.mp4", "out.png", (), 2, "is a video"),
    ("good.mp4", "out.mp4", ("--model", "retinexx"), 2, "did you mean 'retinex'"),
    ("good.mp4", "out.mp4", ("--strength", "nan"), 2, "from 0"),
    ("good.mp4", "out.mp4", ("--strength", "inf"), 2, "from 0"),
    ("good.mp4", "out.mp4", ("--strength", "-0.1"), 2, "from 0"),
    ("good.mp4", "out.mp4", ("--codec", "h266"), 2, "one of"),
    ("good.mp4", "out.webm", ("--codec", "h264"), 2, "webm"),
    ("good.mp4", "out.mp4", ("--quality", "99"), 2, "0 to 51"),
    ("good.mp4", "out.mp4", ("--encoder-preset", "warp"), 2, "warp"),
    ("good.mp4", "out.mp4", ("--start", "5", "--end", "4"), 2, "later"),
    ("good.mp4", "out.mp4", ("--start", "1e9"), 1, "no frames"),
    ("good.mp4", "out.mp4", ("--preset", "quik"), 2, "unknown preset"),
    ("good.mp4", "out.mp4", ("--config", "no.yaml"), 2, "no.yaml does not exist"),
    ("good.mp4", "out.mp4", ("--json", "no/r.json"), 2, "--json no/r.json"),
    ("good.mp4", "out.mp4", ("--strenght", "1"), 2, "--strength"),
    ("good.mp4", "out.mp4", ("--device", "tpu"), 2, "cuda:N"),
    ("good.mp4", "out.mp4", ("--hardware", "warp"), 2, "warp"),
]


@pytest.mark.parametrize(
    ("source", "target", "more", "code", "says"), BAD, ids=[f"{b[0]} {b[1]} {' '.join(b[2])}" for b in BAD]
)
def test_bad_input_is_one_clear_line(bad_inputs, tmp_path, capsys, monkeypatch, source, target, more, code, says):
    monkeypatch.chdir(tmp_path)
    assert run(["enhance", str(bad_inputs / source), "-o", target, *more]) == code
    said = lines(capsys)
    assert len(said) == 1, said
    assert said[0].startswith("streamlight: ")
    assert says in said[0]
    assert "Traceback" not in said[0]
    assert list(tmp_path.iterdir()) == []
    assert sorted(p.name for p in bad_inputs.iterdir()) == [
        "empty", "good.mp4", "random.mkv", "sound.mp4", "text.mp4", "zero.mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["enhence"], "did you mean 'enhance'"),
        (["enhance"], "INPUT"),
        (["enhance", "a.mp4"], "--output"),
        (["probe"], "FILE"),
        (["--verbosely"], "--verbose"),
    ],
)
def test_wrong_use_is_one_clear_line(capsys, args, says):
    assert run(args) == 2
    said = lines(capsys)
    assert len(said) == 1, said
    assert says in said[0]


def test_existing_output_input_is_output_and_unwritable_folder(clip, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    assert run(["enhance", str(clip), "-o", str(target)]) == 1
    assert "--overwrite" in lines(capsys)[0]
    assert target.read_text() == "precious"
    content = clip.read_bytes()
    assert run(["enhance", str(clip), "-o", str(clip), "--overwrite"]) == 1
    assert "same file" in lines(capsys)[0]
    assert clip.read_bytes() == content
    if Path("/proc/version").exists():
        assert run(["enhance", str(clip), "-o", "/proc/out.mp4"]) == 1
        assert len(lines(capsys)) == 1
    assert run(["enhance", str(clip), "-o", str(target), "--overwrite", "-q"]) == 0
    assert lines(capsys) == []


def test_debug_shows_the_traceback_before_or_behind_the_command(tmp_path, capsys):
    for args in (["--debug", "probe", "no.mp4"], ["probe", "no.mp4", "--debug"]):
        assert run(args) == 1
        said = lines(capsys)
        assert any("Traceback" in line for line in said)
        assert said[-1].startswith("streamlight: ")
    assert run(["probe", "no.mp4"]) == 1
    assert len(lines(capsys)) == 1


def test_an_unforeseen_error_is_one_line_too(clip, tmp_path, capsys, monkeypatch):
    from streamlight.pipelines import offline

    def broken(*args, **kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(offline, "probe", broken)
    assert run(["enhance", str(clip), "-o", str(tmp_path / "out.mp4")]) == 1
    said = lines(capsys)
    assert len(said) == 1
    assert "internal error" in said[0]
    assert "ZeroDivisionError" in said[0]


def test_probe(clip, capsys):
    assert run(["probe", str(clip)]) == 0
    out = capsys.readouterr().out
    assert "h264, 64x48, yuv420p" in out
    assert "audio, aac" in out
    assert run(["probe", str(clip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == 64


def test_models(capsys):
    assert run(["models"]) == 0
    assert "retinex" in capsys.readouterr().out
    assert run(["models", "--json"]) == 0
    assert "retinex" in [card["name"] for card in json.loads(capsys.readouterr().out)]


def interrupt_when_a_segment_is_closed(process: subprocess.Popen[str], target: Path, number: int) -> None:
    journal = target.with_name(target.name + ".streamlight") / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b'"record": "segment"') >= 2:
            process.send_signal(number)
            return
        time.sleep(0.005)
    pytest.fail(f"ended before it could be interrupted: {process.communicate()}")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_once_says_how_to_resume(tmp_path, number):
    clip = make_clip(tmp_path / "long.mp4", frames=400, size=(160, 120))
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    command = ["enhance", str(clip), "-o", str(target), "--segment-frames", "5"]
    process = start(*command)
    interrupt_when_a_segment_is_closed(process, target, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    said = err.splitlines()
    assert said[0].startswith("stopping")
    assert "--resume" in said[-1]
    assert len(said) == 2
    assert not target.exists()
    again = start(*command, "--resume", "--json", "-")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert json.loads(out)["frames"]["resumed"] >= 10
    assert run(["enhance", str(clip), "-o", str(whole), "--segment-frames", "5", "-q"]) == 0
    assert packets(target) == packets(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.mp4", "out.mp4", "whole.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupted_twice_breaks_off(tmp_path):
    clip = make_clip(tmp_path / "long.mp4", frames=400, size=(160, 120))
    target = tmp_path / "out.mp4"
    process = start("enhance", str(clip), "-o", str(target), "--segment-frames", "5", "--queue-frames", "256")
    interrupt_when_a_segment_is_closed(process, target, signal.SIGINT)
    assert process.stderr is not None
    process.stderr.readline()  # it has said that it is stopping; the long queue keeps it at work
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not target.exists()


def test_a_closed_pipe_is_no_traceback(clip):
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from streamlight.cli import main; main(['probe', sys.argv[1]])", str(clip)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(timeout=60)


def test_progress_lines():
    moment = Progress("enhance", 65.0, 130.0, 1500, 62.5, 65.4)
    assert plain_line("a.mp4", moment) == "a.mp4: 1:05 of 2:10, 50%, 62.5 fps, 1:05 left"
    assert details(Progress("enhance", 65.0, None, 1500, 62.5, None)) == "62.5 fps"
    assert details(Progress("join", 65.0, None, 1500, 62.5, None)) == "joining"
    assert Progress("enhance", 140.0, 130.0, 1, 1.0, 0.0).fraction == 1.0
