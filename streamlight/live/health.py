"""The small web server of a live run: /metrics for Prometheus, /healthz for whoever restarts services."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from streamlight.errors import ConfigError, MediaError
from streamlight.live.metrics import check_metrics, render_metrics
from streamlight.live.overview import LiveStatus

STUCK_AFTER: Final = 60.0
"""Seconds without a turn of the enhancing thread after which the process is of no use any more; a large model may work
on one picture for many."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def health(status: LiveStatus, now: float) -> tuple[bool, dict[str, Any]]:
    """Whether the process does its work, and the facts.

    A camera that is away is no reason to restart the process: it comes back by itself. A thread that no longer turns
    is one.

    Args:
        status: Of the moment.
        now: ``time.monotonic()``.
    """
    stuck = now - status.beat > STUCK_AFTER
    live = sum(camera.state == "live" for camera in status.cameras)
    word = "stuck" if stuck else "ok" if live == len(status.cameras) else "degraded"
    facts = {
        "status": word,
        "rung": status.rung,
        "cameras": {
            camera.name: {"state": camera.state, "fault": dict(camera.fault) if camera.fault else None}
            for camera in status.cameras
        },
    }
    return not stuck, facts


class StatusServer:
    """Serves /metrics and /healthz until closed; a context manager.

    Args:
        status: Gives the status of the moment; called from the server's threads.
        port: To listen on; 0 takes a free one.
        host: Address to bind to. Nobody but this machine is served unless another is named.

    Attributes:
        port: The port in use.

    Raises:
        ConfigError: prometheus-client is not installed.
        MediaError: The port cannot be had.
    """

    def __init__(self, status: Callable[[], LiveStatus], *, port: int, host: str = "127.0.0.1") -> None:
        check_metrics()
        handler = type("Handler", (_Handler,), {"status": staticmethod(status), "open_to_all": host not in _LOCAL})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise MediaError(
                f"--metrics {port}: {host} cannot be listened on ({error.strerror or error}); choose another port"
            ) from error
        except OverflowError as error:
            raise ConfigError(f"--metrics {port}: expected a port from 0 to 65535") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="streamlight-status", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening. May be repeated."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> StatusServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of two paths; everything else is refused."""

    status: Callable[[], LiveStatus]
    open_to_all = False
    timeout = 5.0
    server_version = "streamlight"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""

    def _answer(self, *, body: bool) -> None:
        host = (self.headers.get("Host") or "localhost").rsplit(":", 1)[0].strip("[]")
        # A page in a browser on this machine must not read it under a name that it made point here.
        if not self.open_to_all and host not in _LOCAL:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"served to this machine only\n", body)
            return
        path = self.path.split("?")[0]
        if path == "/metrics":
            self._send(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", render_metrics(self.status()), body)
        elif path == "/healthz":
            fine, facts = health(self.status(), time.monotonic())
            code = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(code, "application/json", json.dumps(facts).encode() + b"\n", body)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics or /healthz\n", body)

    def _send(self, code: HTTPStatus, kind: str, content: bytes, body: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)
