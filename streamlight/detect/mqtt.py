"""Events published to an MQTT broker."""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from streamlight.detect.address import split_address
from streamlight.detect.detection import DetectionEvent
from streamlight.detect.sink import CAPACITY, BufferedSink, Undelivered
from streamlight.errors import ConfigError

TOPIC: Final = "streamlight/{camera}/detections"
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_DENIED: Final = 60.0
"""Seconds between attempts when the broker does not accept the credentials."""


class MqttSink(BufferedSink):
    """Publishes every event as a JSON object, with quality of service 1 unless the address says otherwise.

    Args:
        url: ``mqtt://user:password@host:1883/topic?qos=1&retain=0``, or ``mqtts://`` for TLS. ``{camera}`` in the
            topic stands for the camera's name; without a topic it is ``streamlight/{camera}/detections``.
        timeout: Seconds for connecting and for the broker's acknowledgement.
        capacity: See :class:`BufferedSink`.

    Raises:
        ConfigError: The address is none, or paho-mqtt is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, capacity: int = CAPACITY) -> None:
        super().__init__(url, capacity=capacity)
        try:
            import paho.mqtt.client  # noqa: F401 - told now, not in the middle of a night
        except ImportError as error:
            raise ConfigError(
                f"event sink {self.name}: needs paho-mqtt; install the extra: pip install 'streamlight[mqtt]'"
            ) from error
        address = split_address(url, tuple(_PORTS))
        self._address = (address.host, address.port or _PORTS[address.scheme])
        self._secure, self._user, self._password = address.scheme == "mqtts", address.user, address.password
        self._topic = unquote(address.path.lstrip("/")) or TOPIC
        self._qos, self._retain = _options(address.query, self.name)
        if re.search(r"[+#\0]", self._topic):
            raise ConfigError(f"event sink {self.name}: a topic to publish to has no '+' and no '#'")
        self._timeout = timeout
        self._client: Any = None

    def _deliver(self, event: DetectionEvent) -> None:
        client = self._connected()
        payload = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False)
        sent = client.publish(topic_of(self._topic, event.camera), payload, qos=self._qos, retain=self._retain)
        if not self._acknowledged(client, sent):
            self._shut()
            raise Undelivered(f"{self.name}: the broker did not acknowledge")

    def _acknowledged(self, client: Any, sent: Any) -> bool:
        """Whether the broker confirms within the time-out; does not wait on when the connection is lost."""
        deadline = time.monotonic() + self._timeout
        try:
            while not sent.is_published() and client.is_connected() and time.monotonic() < deadline:
                sent.wait_for_publish(0.1)
            return bool(sent.is_published())
        except (ValueError, RuntimeError):  # refused by the client itself: its queue is full, or it is not connected
            return False

    def _connected(self) -> Any:
        """The client, connected and accepted by the broker."""
        if self._client is not None and self._client.is_connected():
            return self._client
        self._shut()
        from threading import Event

        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        answered, refusal = Event(), []

        def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                refusal.append(str(reason))
            answered.set()

        def on_disconnect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
            answered.set()

        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.connect_timeout = self._timeout
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._secure:
            client.tls_set()
        try:
            client.connect(*self._address, keepalive=30)
        except (OSError, ValueError) as error:
            raise Undelivered(f"{self.name}: {getattr(error, 'strerror', None) or error}") from error
        client.loop_start()
        self._client = client
        answered.wait(self._timeout)
        if refusal:
            self._shut()
            raise Undelivered(f"{self.name}: the broker refuses us: {refusal[0]}", pause=_DENIED)
        if not client.is_connected():
            self._shut()
            raise Undelivered(f"{self.name}: the broker does not answer")
        return client

    def _shut(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, ValueError):
                client.disconnect()
            client.loop_stop()


def topic_of(template: str, camera: str) -> str:
    """The topic for a camera; what has a meaning in topics is replaced in its name."""
    return template.replace("{camera}", re.sub(r"[/+#\s\0$]", "_", camera) or "camera")


def _options(query: str, name: str) -> tuple[int, bool]:
    given = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    qos, retain = given.pop("qos", "1"), given.pop("retain", "0")
    if given or qos not in ("0", "1", "2") or retain not in ("0", "1"):
        raise ConfigError(f"event sink {name}: behind '?' stand qos=0, 1 or 2 and retain=0 or 1, nothing else")
    return int(qos), retain == "1"
