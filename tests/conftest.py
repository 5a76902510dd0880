"""Fixtures that any test may ask for."""

import signal

from tests.faults.fixtures import fault_proxy, mosquitto, pyav_peer, rtsp_server, rtsp_server_is_there

__all__ = ["fault_proxy", "mosquitto", "pyav_peer", "rtsp_server", "rtsp_server_is_there"]

# Shells start what runs in the background with Ctrl-C ignored, for its children too; tests send that signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
