"""Cameras from the command line and from a file: names, destinations, secrets, and one sentence for every mistake."""

from __future__ import annotations

import pytest

from streamlight.cameras import load_cameras
from streamlight.config import load_config
from streamlight.errors import ConfigError

FILE = """
cameras:
  - url: rtsp://user:${CAMERA_PASSWORD}@10.0.0.7/stream1
    name: yard
  - rtsp://10.0.0.8/stream1
live: {max_latency: 400}
deliver:
  to: rtsp://${SERVER}/{camera}
"""


def test_a_file_lists_cameras_beside_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("CAMERA_PASSWORD", "s3cret")
    monkeypatch.setenv("SERVER", "media:8554")
    file = tmp_path / "cameras.yaml"
    file.write_text(FILE)
    config, cameras = load_cameras(["/dev/video0"], file=file, values={"gate": "always"})
    assert config.live.max_latency == 400
    assert config.live.gate == "always"
    assert [camera.name for camera in cameras] == ["yard", "10.0.0.8", "video0"]
    assert cameras[0].url == "rtsp://user:s3cret@10.0.0.7/stream1"
    assert [camera.to for camera in cameras] == [f"rtsp://media:8554/{name}" for name in ("yard", "10.0.0.8", "video0")]
    assert "s3cret" not in repr(cameras)


def test_names_are_made_of_hosts_and_files_never_of_credentials():
    urls = ["rtsp://u:p@host/a", "rtsp://host/b", "rtsp://host/c", "clips/yard night.mp4", "rtsp://[::1]:8554/x", "://"]
    _, cameras = load_cameras(urls)
    assert [camera.name for camera in cameras] == ["host", "host-2", "host-3", "yard-night", "1", "camera"]


def test_a_camera_s_own_destination_wins(tmp_path):
    file = tmp_path / "cameras.yaml"
    file.write_text("cameras: [{url: a.mp4, to: b/index.m3u8, record: keep}, {url: c.mp4}]\ndeliver: {record: rec}\n")
    _, (first, second) = load_cameras(file=file)
    assert (first.to, first.record) == ("b/index.m3u8", "keep")
    assert (second.to, second.record) == (None, "rec")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cameras: 3", "must be a list"),
        ("cameras: [{name: a}]", r"cameras\[0\]: 'url' is missing"),
        ("cameras: [{url: a, nmae: b}]", "did you mean 'name'"),
        ("cameras: [{url: a, name: 'a b'}]", "'a b' is not allowed"),
        ("cameras: [{url: a, name: x}, {url: b, name: x}]", "two cameras have the name 'x'"),
        ("cameras: [{url: 5}]", r"cameras\[0\].url: must be a text"),
        ("cameras: [7]", "must be an address"),
        ("cameras: ['rtsp://${NOT_SET_ANYWHERE}/x']", "NOT_SET_ANYWHERE is not set"),
        ("cameras: [a, b]\ndeliver: {to: 'rtsp://s/x'}", "put {camera} into it"),
        ("live: {max_latency: 400}", "no camera given"),
        ("cameras: [a]\nlive: {max_latncy: 1}", "did you mean 'max_latency'"),
    ],
)
def test_mistakes_are_named(tmp_path, text, says):
    file = tmp_path / "cameras.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says.replace("{", r"\{").replace("}", r"\}")):
        load_cameras(file=file)


def test_a_camera_file_is_none_for_files(tmp_path):
    file = tmp_path / "cameras.yaml"
    file.write_text("cameras: [a]")
    with pytest.raises(ConfigError, match="streamlight live"):
        load_config(file=file)


def test_events_are_a_list_or_a_text_with_commas(tmp_path):
    config = load_config(values={"events": "a.jsonl, mqtt://broker/topic"})
    assert config.detect.events == ("a.jsonl", "mqtt://broker/topic")
    file = tmp_path / "c.yaml"
    file.write_text("detect: {events: [a.jsonl, b.jsonl]}")
    assert load_config(file=file).detect.events == ("a.jsonl", "b.jsonl")
    file.write_text("detect: {pictures: both, model: motion}")
    assert load_config(file=file).detect.pictures == "both"
