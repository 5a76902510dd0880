"""Live runs with real cameras (files at their own pace, RTSP), real recordings and a real process that is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import av
import numpy as np
import pytest
from streamlight.pipelines.live_report import LiveReport
from streamlight.pipelines.live_rungs import UNTOUCHED, Rungs
from streamlight.pipelines.surveillance import LiveRun, run_live

from streamlight.cameras import CameraEntry, load_cameras
from streamlight.cli._main import run as run_command
from streamlight.config import load_config
from streamlight.errors import ConfigError
from streamlight.models.llflow import LLFlow
from tests.clips import make_clip
from tests.models.llflow_golden import WEIGHTS

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
QUICK = {"model": "retinex", "realtime": True, "max_latency": 10_000, "workers": 1}


def check_account(report: LiveReport) -> None:
    """What came in went out or was dropped, exactly; also behind every delivery."""
    for camera in report.cameras:
        frames = camera["frames"]
        assert frames["waiting"] == 0
        assert frames["in"] == frames["out"] + sum(camera["dropped"].values())
        assert camera["latency"]["count"] == frames["out"]
        for delivery in camera["delivery"]:
            assert delivery["offered"] == frames["out"] + delivery["filled"]
            assert delivery["offered"] == delivery["written"] + sum(delivery["dropped"].values())


def read_luma(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]


def test_two_cameras_are_enhanced_and_recorded_and_the_account_is_exact(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        make_clip(tmp_path / f"{name}.mp4", frames=25, seed=seed)
    cameras = [
        CameraEntry(str(tmp_path / f"{name}.mp4"), name, record=str(tmp_path / "rec" / f"{name}.mkv")) for name in "ab"
    ]
    seen: dict[str, list[int]] = {"a": [], "b": []}
    report = run_live(cameras, load_config(values=QUICK), on_frame=lambda name, frame: seen[name].append(frame.pts))
    assert report.status == "done"
    check_account(report)
    for name in "ab":
        entry = report.camera(name)
        assert entry["frames"]["in"] == 25
        assert entry["fault"] is None
        assert entry["pictures"]["enhanced"] == entry["frames"]["out"] == len(seen[name])
        assert seen[name] == sorted(set(seen[name]))
        (recording,) = (tmp_path / "rec").glob(f"{name}*.mkv")
        luma = read_luma(recording)
        assert len(luma) == entry["delivery"][0]["written"]
        assert np.mean(luma) > 60  # the clip has 32
    json.loads(report.to_json())


def test_a_file_in_no_hurry_loses_nothing_on_its_way_into_a_recording(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=40)
    camera = CameraEntry(str(clip), "a", record=str(tmp_path / "out.mkv"))
    config = load_config(values=QUICK | {"realtime": False, "max_latency": 20})
    report = run_live([camera], config)
    check_account(report)
    assert report.cameras[0]["frames"]["out"] == 40
    assert report.cameras[0]["dropped"] == {}
    assert len(read_luma(tmp_path / "out.mkv")) == 40


def test_daylight_passes_untouched_and_is_counted(tmp_path: Path) -> None:
    clip = tmp_path / "day.mkv"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(10):
            luma = np.full((48, 64), 150 + i, np.uint8)
            picture = np.concatenate([luma, np.full((24, 64), 120, np.uint8)])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        out.mux(stream.encode(None))
    seen = []
    camera = CameraEntry(str(clip), "day")
    config = load_config(values=QUICK | {"realtime": False})
    report = run_live([camera], config, on_frame=lambda name, frame: seen.append([p.copy() for p in frame.planes]))
    assert report.cameras[0]["pictures"] == {"untouched": 10}
    assert [int(planes[0][0, 0]) for planes in seen] == list(range(150, 160))
    assert all((plane == 120).all() for planes in seen for plane in planes[1:])
    always = run_live([camera], load_config(values=QUICK | {"realtime": False, "gate": "always"}))
    assert always.cameras[0]["pictures"] == {"enhanced": 10}


def test_stopping_is_quick_with_cameras_that_are_away(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=500)
    cameras = [CameraEntry(str(clip), "a", record=str(tmp_path / "rec"))]
    cameras += [CameraEntry(f"rtsp://user:s3cret@127.0.0.1:{port}/x", f"away{port}") for port in (1, 2, 3)]
    stop = threading.Event()
    begun: list[LiveRun] = []
    result: list[LiveReport] = []
    thread = threading.Thread(
        target=lambda: result.append(
            run_live(cameras, load_config(values=QUICK | {"metrics": 0}), stop=stop, on_start=begun.append)
        )
    )
    thread.start()
    end = time.monotonic() + 60
    while not (begun and begun[0].status().cameras[0].frames_out > 10):
        assert time.monotonic() < end
        time.sleep(0.02)
    address = f"http://127.0.0.1:{begun[0].metrics_port}"
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
        health = json.load(answer)
    assert health["status"] == "degraded"
    assert health["cameras"]["a"]["state"] == "live"
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'streamlight_camera_state{camera="away1",state="live"} 0.0' in metrics
    began = time.monotonic()
    stop.set()
    thread.join(60)
    assert time.monotonic() - began < 10  # 5 where nothing else runs
    (report,) = result
    check_account(report)
    assert report.status == "stopped"
    assert report.camera("away1")["fault"]["reason"] == "refused"
    (recording,) = (tmp_path / "rec").glob("a-*.mp4")
    assert len(read_luma(recording)) == report.camera("a")["delivery"][0]["written"]
    assert "s3cret" not in report.to_json() + metrics + json.dumps(health)


def test_sigterm_ends_the_command_with_recordings_that_play(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "yard.mp4", frames=1000)
    command = [sys.executable, "-m", "streamlight", "live", str(clip), "rtsp://user:s3cret@127.0.0.1:1/x",
               "--realtime", "--model", "retinex", "--workers", "1", "--record", str(tmp_path / "rec"), "--max-latency",
               "10000", "--log-format", "json", "--detect", "motion", "--events", str(tmp_path / "events.jsonl"),
               "--json", str(tmp_path / "report.json")]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "camera-state" in line and '"live"' in line:
                break
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 0
    log = "".join(lines) + rest
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"camera-start", "camera-state", "recording-file"} <= {entry["event"] for entry in entries}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["status"] == "stopped"
    (recording,) = (tmp_path / "rec").glob("yard-*.mp4")
    frames = report["cameras"][0]["frames"]
    assert 0 < frames["out"] < 1000
    assert len(read_luma(recording)) == report["cameras"][0]["delivery"][0]["written"]
    assert report["cameras"][1]["state"] == "offline"
    assert report["detection"]["looks"]["enhanced"] > 0
    assert "s3cret" not in log + (tmp_path / "report.json").read_text()


def test_an_rtsp_camera_is_read_enhanced_and_published(rtsp_server, tmp_path: Path) -> None:
    server = rtsp_server(size=(160, 120), rate=15, record_to=tmp_path)
    stop = threading.Event()
    out: list[int] = []
    entry = CameraEntry(server.url(), "yard", to=server.url("enhanced"))

    def listen(name: str, frame: object) -> None:
        out.append(1)
        if len(out) >= 60:
            stop.set()

    timer = threading.Timer(60, stop.set)
    timer.start()
    config = load_config(values={"model": "retinex", "workers": 1, "gate": "always", "max_latency": 2000})
    report = run_live([entry], config, stop=stop, on_frame=listen)
    timer.cancel()
    check_account(report)
    assert report.cameras[0]["frames"]["out"] >= 60
    assert report.cameras[0]["delivery"][0]["written"] > 0
    (kept,) = tmp_path.glob("*")
    assert len(read_luma(kept)) > 0


def test_a_steady_picture_goes_on_when_the_camera_is_away(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=8)
    stop = threading.Event()
    entries = [
        CameraEntry(str(clip), "short", to=str(tmp_path / "hls" / "index.m3u8")),
        CameraEntry("rtsp://127.0.0.1:1/x", "never"),
    ]
    timer = threading.Timer(30, stop.set)
    timer.start()

    def watch(run: LiveRun) -> None:
        def wait() -> None:
            while not stop.wait(0.05):
                delivery = run.status().cameras[0].delivery[0]
                if delivery.filled >= 10 and delivery.written >= 8:
                    stop.set()

        threading.Thread(target=wait, daemon=True).start()

    report = run_live(entries, load_config(values=QUICK | {"steady": 10}), stop=stop, on_start=watch)
    timer.cancel()
    check_account(report)
    delivery = report.camera("short")["delivery"][0]
    assert delivery["filled"] >= 10
    assert delivery["written"] > report.camera("short")["frames"]["out"]


def test_the_rungs_of_a_model_end_in_the_picture_as_it_came() -> None:
    rungs = Rungs(load_config())
    assert rungs.names == ["full", "working size 320", "working size 240", "without the denoiser", UNTOUCHED]
    sizes = [rung.enhancer.settings.working_size for rung in rungs.rungs if rung.enhancer]
    assert sizes == [480, 320, 240, 240]
    rungs.close()
    rungs = Rungs(load_config(values={"model": "retinex", "working_size": 160}))
    assert rungs.names == ["full", UNTOUCHED]
    rungs.close()


def test_a_large_model_gives_up_size_then_key_frames_then_itself() -> None:
    config = load_config(values={"model": str(WEIGHTS), "temperature": 0.5})
    rungs = Rungs(config)
    sizes = ["working size 320", "working size 240"]
    keys = ["a key frame in 4", "a key frame in 8", "a key frame in 16"]
    assert rungs.names == ["full", "guided", *sizes, *keys, "tonenet", "without the denoiser", UNTOUCHED]
    assert [rung.family for rung in rungs.rungs] == ["llflow"] * 7 + ["tonenet"] * 2 + [""]
    assert [rung.batches for rung in rungs.rungs] == [True] + [False] * 9
    models = {id(rung.enhancer.model) for rung in rungs.rungs[:7] if rung.enhancer}
    assert len(models) == 1  # loaded once
    rungs.close()


def test_cameras_share_the_calls_of_a_large_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    condition = LLFlow.condition
    monkeypatch.setattr(
        LLFlow, "condition", lambda self, low, **kw: (calls.append(len(low)), condition(self, low, **kw))[1]
    )
    entries = [CameraEntry(str(make_clip(tmp_path / f"{name}.mp4", frames=6)), name) for name in "ab"]
    values = {"model": str(WEIGHTS), "realtime": False, "batch_wait": 1000, "workers": 1}
    report = run_live(entries, load_config(values=values))
    check_account(report)
    assert [camera["pictures"]["enhanced"] for camera in report.cameras] == [6, 6]
    assert calls.count(2) >= 5


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names must differ"):
        run_live([CameraEntry("a", "x"), CameraEntry("b", "x")])
    with pytest.raises(ConfigError, match="at least one camera"):
        run_live([])
    with pytest.raises(ConfigError, match="expected 'motion' or an"):
        run_live([CameraEntry("a.mp4", "x")], load_config(values={"detect": "cats"}))
    with pytest.raises(ConfigError, match=r"'\.txt' names no container"):
        run_live([CameraEntry("a.mp4", "x", record=str(tmp_path / "a.txt"))])


def test_events_without_a_detector_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="need something that detects"):
        run_live([CameraEntry("a.mp4", "x")], load_config(values={"events": "e.jsonl"}))


def test_a_run_that_never_got_a_picture_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["live", str(tmp_path / "missing.mp4"), "--model", "retinex"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert run_command(["live"]) == 2
    assert "no camera given" in capsys.readouterr().err


def test_the_preset_runs_on_a_sample(tmp_path: Path) -> None:
    values = {"record": str(tmp_path / "r")}
    config, (camera,) = load_cameras([str(SAMPLES / "yard.mp4")], preset="surveillance", values=values)
    seen: list[int] = []
    stop = threading.Event()

    def listen(name: str, frame: object) -> None:
        seen.append(1)
        if len(seen) >= 10:
            stop.set()

    report = run_live([camera], config, stop=stop, on_frame=listen)
    check_account(report)
    assert report.cameras[0]["pictures"]["enhanced"] >= 10
    (recording,) = (tmp_path / "r").glob("yard-*.mp4")
    assert np.mean(read_luma(recording)) > 40  # the sample has 27


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what can be overwritten")
def test_passwords_do_not_stand_in_the_process_list() -> None:
    urls = ["rtsp://anna:s3cret@127.0.0.1:1/x?a=b", "rtsp://plain.example/x", "rtsp://bob@with:at@sign@127.0.0.1:2/y"]
    code = (
        "import sys, pathlib\n"
        "from streamlight.cli._title import hide_credentials\n"
        "print(hide_credentials())\n"
        "print(pathlib.Path('/proc/self/cmdline').read_bytes().split(b'\\0'))\n"
        "print(sys.argv[1:])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *urls], capture_output=True, text=True, timeout=60)
    hidden, shown, kept = run.stdout.splitlines()
    assert hidden == "True", run.stderr
    assert not any(secret in shown for secret in ("anna", "s3cret", "bob", "sign@"))
    assert "rtsp://***********@127.0.0.1:1/x?a=b" in shown
    assert "rtsp://plain.example/x" in shown
    assert kept == str(urls)
    run = subprocess.run([sys.executable, "-c", code, urls[1]], capture_output=True, text=True, timeout=60)
    assert run.stdout.startswith("False")
