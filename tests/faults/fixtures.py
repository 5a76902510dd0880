"""Fixtures that make rehearsal parts and end all of them, also when the test fails. See :mod:`tests.faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults import FaultProxy, Mosquitto, PyavPeer, RtspServer, has_mosquitto, has_rtsp_server, why_no_rtsp_server


@pytest.fixture(scope="session")
def rtsp_server_is_there() -> None:
    """Skip where there is no RTSP server to rehearse with."""
    if not has_rtsp_server():
        pytest.skip(f"no GStreamer RTSP server here: {why_no_rtsp_server()}")


@pytest.fixture
def rtsp_server(rtsp_server_is_there: None) -> Iterator[Callable[..., RtspServer]]:
    """Make and start an RTSP server: ``rtsp_server(size=(160, 120))``; the test is skipped where there is none."""
    with ExitStack() as stack:

        def make(port: int = 0, **options: Any) -> RtspServer:
            server = RtspServer(port, **options)
            stack.callback(server.kill)
            return server.start()

        yield make


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Make a proxy to a port: ``fault_proxy(server.port)``."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(FaultProxy(port))


@pytest.fixture
def pyav_peer() -> Iterator[Callable[..., PyavPeer]]:
    """Make a peer process: ``pyav_peer("listen")``."""
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> PyavPeer:
            peer = PyavPeer(*args, **options)
            stack.callback(peer.kill)
            return peer

        yield make


@pytest.fixture
def mosquitto() -> Iterator[Callable[..., Mosquitto]]:
    """Make and start an MQTT broker: ``mosquitto()``; the test is skipped where there is none."""
    if not has_mosquitto():
        pytest.skip("mosquitto is not installed")
    with ExitStack() as stack:

        def make(**options: Any) -> Mosquitto:
            broker = Mosquitto(**options)
            stack.callback(broker.close)
            return broker.start()

        yield make
