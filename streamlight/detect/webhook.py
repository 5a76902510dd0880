"""Events posted to a web server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from typing import Final

from streamlight.detect.address import split_address
from streamlight.detect.detection import DetectionEvent
from streamlight.detect.sink import CAPACITY, BufferedSink, Refused, Undelivered
from streamlight.media.urls import redact

_LATER: Final = (408, 425, 429)
"""Answers of a server that would take the event at another time."""

_DENIED: Final = (401, 403, 407)
_LONG: Final = 60.0
"""Seconds between attempts when the credentials are wrong (servers lock out who hammers them), and the longest pause
that a server may ask for."""


class WebhookSink(BufferedSink):
    """Posts every event as a JSON object, over a connection that is kept.

    An answer 2xx is delivery. Connection failures and the answers 408, 425, 429 and 5xx are tried again (after
    ``Retry-After`` where the server says so), wrong credentials once a minute; every other answer, also a redirection,
    refuses the event. A receiver may see an event twice: camera, pts and ``on`` tell it.

    Args:
        url: ``http://`` or ``https://``; ``user:password@`` becomes basic authorization.
        timeout: Seconds for connecting and for the answer.
        capacity: See :class:`BufferedSink`.

    Raises:
        ConfigError: The address is none.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, capacity: int = CAPACITY) -> None:
        super().__init__(url, capacity=capacity)
        address = split_address(url, ("http", "https"))
        self._secure, self._host, self._port = address.scheme == "https", address.host, address.port
        self._target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "streamlight"}
        if address.user is not None:
            pair = f"{address.user}:{address.password or ''}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def _deliver(self, event: DetectionEvent) -> None:
        body = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False).encode()
        kept = self._connection is not None
        try:
            status, later = self._post(body)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if kept and not isinstance(error, TimeoutError):
                # Servers close connections that were idle for a while: that is no failure of theirs.
                return self._deliver(event)
            raise Undelivered(f"{self.name}: {_words(error)}") from error
        if 200 <= status < 300:
            return
        told = f"{self.name}: answered {status} {http.client.responses.get(status, '')}".rstrip()
        if status in _DENIED:
            raise Undelivered(f"{told}; check user and password", pause=_LONG)
        if status in _LATER or status >= 500:
            raise Undelivered(told, pause=later)
        raise Refused(told)

    def _post(self, body: bytes) -> tuple[int, float | None]:
        """Status and the pause that the server asks for."""
        if self._connection is None:
            if self._secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        self._connection.request("POST", self._target, body=body, headers=self._headers)
        answer = self._connection.getresponse()
        answer.read(1 << 16)
        if not answer.isclosed() or answer.will_close:
            self._drop()  # more to read than anyone needs, or the server closes
        later = answer.headers.get("Retry-After", "")
        return answer.status, min(_LONG, float(later)) if later.isdigit() else None

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _shut(self) -> None:
        self._drop()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return redact(getattr(error, "strerror", None) or str(error) or type(error).__name__)
