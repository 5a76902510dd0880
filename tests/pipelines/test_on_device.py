"""Whole files through the stages of a device: decode, upload, enhance, download or encode there.

The device is the processor, whose tensors PyAV can read by DLPack; that nothing waits for a device is shown in
tests/enhance/test_on_card.py.
"""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from streamlight.pipelines import live_rungs, offline, segment_run
from streamlight.pipelines.building import enhancer_for

from streamlight import enhance_video
from streamlight.config import Config, load_config
from streamlight.enhance import Enhancer
from streamlight.enhance.resident import Resident
from streamlight.temporal import StreamState
from tests.clips import make_clip, packets, video_times
from tests.media.fakecard import FakeCard

SETTINGS = {"model": "tonenet", "workers": 1, "encoder_preset": "ultrafast", "quality": 1}


class OnProcessor(Resident):
    """As if the processor were a card: what is remembered of full-size planes is tensors there."""

    def bring(self, state: StreamState) -> None:
        state.memory = [plane if isinstance(plane, torch.Tensor) else torch.from_numpy(plane) for plane in state.memory]


def on_device(config: Config) -> Enhancer:
    enhancer = enhancer_for(config)
    enhancer.resident = OnProcessor(torch.device("cpu"))
    return enhancer


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "enhancer_for", on_device)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "dark.mp4", frames=24, size=(128, 96))


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]).astype(int)


def close(one: Path, other: Path) -> bool:
    """The same up to rounding, and what the encoder makes of it at its best quality."""
    return float(np.abs(pictures(one) - pictures(other)).mean()) < 0.4


@pytest.mark.parametrize(
    "options", [{}, {"compare": True}, {"highlights": 0.7}, {"strength": 0.0}], ids=["plain", "compare", "lamps", "off"]
)
def test_the_file_is_that_of_the_host(options, clip, tmp_path, monkeypatch):
    host = enhance_video(clip, tmp_path / "host.mkv", **SETTINGS, **options)
    monkeypatch.setattr(offline, "enhancer_for", on_device)
    report = enhance_video(clip, tmp_path / "device.mkv", **SETTINGS, **options)
    assert [stage["name"] for stage in report.stages] == ["decode", "upload", "enhance", "download", "encode"]
    assert [stage["items_out"] for stage in report.stages] == [24] * 5
    assert report.frames == host.frames
    assert (report.device["up"], report.device["down"], report.device["copied_out"]) == (24, 24, 0)
    assert 0 < report.device["pinned"] <= 14 * 1.5 * 128 * 96 * 1.1
    assert host.device == {}
    assert video_times(tmp_path / "device.mkv") == video_times(tmp_path / "host.mkv")
    assert close(tmp_path / "device.mkv", tmp_path / "host.mkv")


def test_a_job_that_was_stopped_goes_on_with_the_same_bits(clip, tmp_path, device):
    whole, parts = tmp_path / "whole.mkv", tmp_path / "parts.mkv"
    enhance_video(clip, whole, segment_frames=6, **SETTINGS)
    stop = threading.Event()
    first = enhance_video(clip, parts, segment_frames=6, stop=stop, progress=lambda _: stop.set(), **SETTINGS)
    assert first.status == "interrupted"
    enhance_video(clip, parts, segment_frames=6, resume=True, **SETTINGS)
    assert packets(parts) == packets(whole)


@pytest.mark.parametrize("options", [{}, {"compare": True}], ids=["nothing to do on the host", "work for the host"])
def test_an_encoder_on_the_device_gets_frames_there(options, clip, tmp_path, device, monkeypatch):
    enhance_video(clip, tmp_path / "down.mkv", **SETTINGS, **options)
    monkeypatch.setattr(segment_run, "takes_device_frames", lambda plan: True)
    shapes = []
    write = segment_run.SegmentWriter.write

    def watched(writer, frame):
        shapes.append([tuple(plane.shape) for plane in frame.planes])
        write(writer, frame)

    monkeypatch.setattr(segment_run.SegmentWriter, "write", watched)
    report = enhance_video(clip, tmp_path / "there.mkv", **SETTINGS, **options)
    assert report.frames["out"] == 24
    assert np.array_equal(pictures(tmp_path / "there.mkv"), pictures(tmp_path / "down.mkv"))
    packed = [(96, 128), (48, 64, 2)]
    assert all((shape == packed) == (not options) for shape in shapes)


@pytest.mark.parametrize("options", [{}, {"compare": True}], ids=["plain", "compare"])
def test_pictures_that_a_decoder_leaves_on_the_device_are_taken_up_there(options, clip, tmp_path, device, monkeypatch):
    enhance_video(clip, tmp_path / "software.mkv", **SETTINGS, **options)
    card = FakeCard(monkeypatch)
    report = enhance_video(clip, tmp_path / "card.mkv", hardware_decode="auto", **SETTINGS, **options)
    assert card.opened
    assert report.source["hardware_frames"] > 0
    assert report.frames["out"] == 24
    assert np.array_equal(pictures(tmp_path / "card.mkv"), pictures(tmp_path / "software.mkv"))


def test_what_works_otherwise_than_it_should_is_in_the_report(clip, tmp_path, monkeypatch):
    def stepped_down(config: Config) -> Enhancer:
        enhancer = on_device(config)
        enhancer.stepped_down.append("working size 480 does not fit")
        return enhancer

    monkeypatch.setattr(offline, "enhancer_for", stepped_down)
    report = enhance_video(clip, tmp_path / "out.mkv", **SETTINGS)
    assert report.fallbacks == ["working size 480 does not fit"]


def test_a_card_is_warmed_up_at_every_working_size_and_a_usual_size_of_frame(monkeypatch):
    monkeypatch.setattr(live_rungs, "enhancer_for", on_device)
    monkeypatch.setattr(live_rungs, "_USUAL", (480, 272))
    seen = []
    run = OnProcessor.run

    def watched(resident, frames, states, seconds, work, *, key):
        seen.append((frames[0].width, frames[0].height, key[0].working_size))
        run(resident, frames, states, seconds, work, key=key)

    monkeypatch.setattr(OnProcessor, "run", watched)
    rungs = live_rungs.Rungs(load_config(values={"model": "retinex", "workers": 1, "working_size": 240}))
    rungs.warm_up()
    rungs.close()
    assert sorted(set(seen)) == [(480, 272, 160), (480, 272, 240)]
    assert len(seen) == 2 * live_rungs._UNTIL_GRAPHS
