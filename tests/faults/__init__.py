"""What live work is rehearsed with, all on loopback, all gone when the test is over.

``RtspServer``
    Cameras to read and a media server to publish to: GStreamer's RTSP server in the system's Python. Can be killed,
    frozen, restarted with another picture size; its clock can jump, its pictures can pause. Where GStreamer is missing
    (``has_rtsp_server()`` is False) tests that need it skip with the reason (mark ``needs_rtsp_server``).
``FaultProxy``
    A TCP proxy that freezes, cuts, resets, slows or refuses connections. Put it between the two:
    ``server.url().replace(str(server.port), str(proxy.port))`` or ``proxied(server.url(), proxy)``.
``PyavPeer``
    A process with PyAV that listens for a published stream, or publishes one: works without GStreamer.
``Mosquitto``
    An MQTT broker; ``has_mosquitto()`` says whether there is one.

Fixtures of the same names in lower case (``rtsp_server``, ``fault_proxy``, ``pyav_peer``, ``mosquitto``) make as many
as a test asks for and end all of them also when the test fails: ``server = rtsp_server(size=(160, 120))``.
"""

from __future__ import annotations

import pytest

from streamlight.evaluation.live_proxy import FaultProxy
from streamlight.evaluation.live_server import RtspServer, has_rtsp_server, why_no_rtsp_server
from tests.faults.mosquitto import Mosquitto, has_mosquitto
from tests.faults.peer import PyavPeer

__all__ = [
    "FaultProxy",
    "Mosquitto",
    "PyavPeer",
    "RtspServer",
    "has_mosquitto",
    "has_rtsp_server",
    "needs_rtsp_server",
    "proxied",
    "why_no_rtsp_server",
]

needs_rtsp_server = pytest.mark.usefixtures("rtsp_server_is_there")
"""Looks when the first such test runs, not whenever tests are collected."""


def proxied(url: str, proxy: FaultProxy) -> str:
    """The same address through the proxy."""
    head, colon, tail = url.rpartition(":")
    return f"{head}{colon}{proxy.port}/{tail.partition('/')[2]}"
