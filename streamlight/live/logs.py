"""What happens, one line an event: text for people, JSON for machines. Credentials never get here."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from streamlight.media.urls import redact

LOGGER: Final = logging.getLogger("streamlight.live")

LogFormat = Literal["text", "json"]


def log_event(event: str, message: str, *, camera: str = "", level: int = logging.INFO, **fields: Any) -> None:
    """Log an event.

    Args:
        event: Short, stable, kebab-case name, for example ``"camera-state"``.
        message: One sentence for people.
        camera: The camera concerned.
        level: As in :mod:`logging`.
        fields: Plain values for machines.
    """
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, "%s", message, extra={"event": event, "camera": camera, "fields": fields})


def start_logging(style: LogFormat = "text", *, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write events to ``stream`` (stderr) from now on; replaces what an earlier call set up.

    Args:
        style: ``"text"`` or ``"json"``.
        stream: Where to.
        level: Least level that is written.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False


class TextFormatter(logging.Formatter):
    """``2026-11-20T19:40:02Z yard: connection lost``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        camera = getattr(record, "camera", "")
        word = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = f"{_utc(record)[:19]}Z {camera + ': ' if camera else ''}{word}{record.getMessage()}"
        return redact(" ".join(text.split()))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, camera, message, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        entry: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
        }
        if camera := getattr(record, "camera", ""):
            entry["camera"] = camera
        entry["message"] = record.getMessage()
        entry |= {key: value for key, value in getattr(record, "fields", {}).items() if key not in entry}
        return json.dumps(_clean(entry), ensure_ascii=False)


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clean(value: Any) -> Any:
    """``value`` with every text redacted."""
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(value)
