"""Several devices share files and cameras among them; here every device is the host under another name."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from streamlight.pipelines import live_rungs, offline
from streamlight.pipelines.building import enhancer_for, one_per_device
from streamlight.pipelines.offline import enhance_many
from streamlight.pipelines.surveillance import run_live

from streamlight.cameras import CameraEntry
from streamlight.config import Config, load_config
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError
from tests.clips import make_clip
from tests.pipelines.test_surveillance import check_account

TWO = {"model": "retinex", "device": "cuda:0,cuda:1", "workers": 1}


class Gone(BaseException):
    """No picture's fault."""


class Devices:
    """Makes enhancers on the host and notes which device each was meant for, and who called it from where."""

    def __init__(self, *, meet: int = 0) -> None:
        self.barrier = threading.Barrier(meet) if meet else None
        self.calls: dict[str, list[str]] = {}
        self.fail: str | None = None

    def __call__(self, config: Config) -> Enhancer:
        device = config.model.device
        enhancer = enhancer_for(config.model_copy(update={"model": config.model.on("cpu")}))
        calls = self.calls.setdefault(device, [])
        plain = enhancer.__class__.__call__

        class Watched(enhancer.__class__):  # type: ignore[name-defined, misc]
            def __call__(watched, frames: Any, states: Any) -> Any:
                if self.barrier is not None and not calls:
                    calls.append("met")
                    self.barrier.wait(20)  # only devices that work side by side meet
                if self.fail == device:
                    raise Gone(device)
                calls.append(threading.current_thread().name)
                return plain(watched, frames, states)

        enhancer.__class__ = Watched
        return enhancer


def test_options_name_several_cards() -> None:
    config = load_config(values=TWO)
    assert config.model.devices == ("cuda:0", "cuda:1")
    assert [one.model.device for one in one_per_device(config)] == ["cuda:0", "cuda:1"]
    assert load_config(values={"device": "cuda:1,cuda:1"}).model.devices == ("cuda:1",)
    for wrong in ("cuda:0,cpu", "cuda:0,", "cuda,cuda:1", "gpu"):
        with pytest.raises(ConfigError, match="several cards with commas"):
            load_config(values={"device": wrong})


def test_files_are_shared_and_each_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(meet=2)
    monkeypatch.setattr(offline, "enhancer_for", devices)
    (tmp_path / "in").mkdir()
    for number in range(5):
        make_clip(tmp_path / "in" / f"{number}.mp4", frames=4, seed=number)
    (tmp_path / "in" / "3.mp4").write_bytes(b"no video")
    finished: list[str] = []
    reports = enhance_many(
        [tmp_path / "in"], tmp_path / "out", config=load_config(values=TWO),
        finished=lambda job, report, error: finished.append(job.destination.name),
    )  # fmt: skip
    assert sorted(finished) == [f"{number}.mp4" for number in range(5)]
    assert sorted(report.status for report in reports) == ["done"] * 4 + ["failed"]
    assert all(calls[0] == "met" and len(calls) > 1 for calls in devices.calls.values())
    assert sum(len(calls) - 1 for calls in devices.calls.values()) == 16
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.mp4", "1.mp4", "2.mp4", "4.mp4"]


def test_stop_ends_the_work_of_every_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "enhancer_for", Devices())
    (tmp_path / "in").mkdir()
    for number in range(4):
        make_clip(tmp_path / "in" / f"{number}.mp4", frames=4, seed=number)
    stop = threading.Event()
    stop.set()
    assert enhance_many([tmp_path / "in"], tmp_path / "out", config=load_config(values=TWO), stop=stop) == []


def live(tmp_path: Path, count: int) -> tuple[list[CameraEntry], Config]:
    cameras = [
        CameraEntry(str(make_clip(tmp_path / f"{number}.mp4", frames=12, seed=number)), f"camera{number}")
        for number in range(count)
    ]
    return cameras, load_config(values=TWO | {"gate": "always", "max_latency": 60_000})


def test_cameras_are_dealt_to_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices()
    monkeypatch.setattr(live_rungs, "enhancer_for", devices)
    cameras, config = live(tmp_path, 3)
    threads: dict[str, set[str]] = {}

    def on_frame(name: str, frame: object) -> None:
        threads.setdefault(name, set()).add(threading.current_thread().name)

    report = run_live(cameras, config, on_frame=on_frame)
    check_account(report)
    assert [entry["frames"]["out"] for entry in report.cameras] == [12] * 3
    assert threads["camera0"] == threads["camera2"] != threads["camera1"]
    assert set(devices.calls) == {"cuda:0", "cuda:1"}
    assert report.ladder["rung"] == "full"


def test_no_device_without_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices()
    monkeypatch.setattr(live_rungs, "enhancer_for", devices)
    cameras, config = live(tmp_path, 1)
    run_live(cameras, config)
    assert set(devices.calls) == {"cuda:0"}


def test_what_ends_the_loop_of_one_device_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would look after its cameras; a supervisor starts the run anew."""
    devices = Devices()
    monkeypatch.setattr(live_rungs, "enhancer_for", devices)
    cameras, config = live(tmp_path, 2)

    def on_start(_: object) -> None:
        devices.fail = "cuda:1"

    with pytest.raises(Gone, match="cuda:1"):
        run_live(cameras, config.model_copy(), on_start=on_start)
