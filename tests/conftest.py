"""Fixtures that any test may ask for."""

from tests.faults.fixtures import fault_proxy, mosquitto, pyav_peer, rtsp_server, rtsp_server_is_there

__all__ = ["fault_proxy", "mosquitto", "pyav_peer", "rtsp_server", "rtsp_server_is_there"]
