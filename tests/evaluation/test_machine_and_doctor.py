from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys

from streamlight.evaluation.doctor import _advice, diagnose
from streamlight.evaluation.machine import describe_machine


def test_machine_names_hardware_and_versions_only() -> None:
    machine = describe_machine()
    assert 1 <= machine.cores <= machine.cores_online
    assert machine.memory_bytes > 1 << 28
    assert machine.python.count(".") >= 1
    assert {"streamlight", "av", "torch", "numba", "opencv-python-headless", "ffmpeg"} <= set(machine.versions)
    text = json.dumps(machine.to_dict())
    assert os.getcwd() not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert len(name) < 5 or name not in text


def test_doctor_tries_encoders_instead_of_trusting_names() -> None:
    """A name in libavcodec's list that does not open is reported as such, with the reason."""
    found = diagnose()
    states = {state.encoder: state for state in found.media.encoders}
    assert states["libx264"].opens
    assert found.devices[0].name == "cpu"
    assert found.devices[0].usable
    assert "retinex" in found.models
    for state in states.values():
        assert state.opens != bool(state.reason)


def test_advice_names_what_is_missing() -> None:
    from dataclasses import replace

    found = diagnose()
    broken = [replace(s, opens=False, reason="gone") if s.encoder == "libx264" else s for s in found.media.encoders]
    media = replace(found.media, encoders=tuple(broken), missing_decoders=("hevc",))
    advice = " ".join(_advice(replace(found.machine, memory_bytes=1 << 29), media, found.devices))
    assert "No encoder for h264" in advice
    assert "hevc cannot be read" in advice
    assert "2 GiB" in advice


def test_command_prints_text_and_json() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "streamlight", "doctor"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "libx264 (software, 8 and 10 bit) into .mp4" in text.stdout
    data = subprocess.run(
        [sys.executable, "-m", "streamlight", "doctor", "--json"], capture_output=True, check=True, timeout=120
    )
    assert json.loads(data.stdout)["machine"]["versions"]["av"] in text.stdout
    assert data.stderr == b""
