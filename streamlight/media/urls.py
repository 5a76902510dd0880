"""Addresses of inputs and outputs: telling files from URLs, and hiding credentials."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#\s]*@")
_SECRET_QUERY = re.compile(
    r"([?&](?:[\w.\-]*(?:token|passw(?:or)?d|pwd|secret|signature|apikey|api_key|access_key|auth)|user(?:name)?|key|sig)=)"
    r"[^&#\s]+",
    re.IGNORECASE,
)


def redact(text: object) -> str:
    """Hide credentials in a URL, or in a message that contains URLs.

    Args:
        text: A URL, a path, or any text (for example an error message that quotes a URL).

    Returns:
        The text with ``user:password@`` replaced by ``***@`` and the values of secret-looking query parameters
        (``token=``, ``password=``, …) by ``***``. Everything else is unchanged.
    """
    hidden = _USERINFO.sub(r"\1***@", str(text))
    return _SECRET_QUERY.sub(r"\1***", hidden)


def is_url(name: str | PathLike[str]) -> bool:
    """Whether ``name`` is a network address (``scheme://…``) rather than a file. ``file://`` counts as a file."""
    text = fspath(name)
    return bool(_SCHEME.match(text)) and not text.lower().startswith("file://")


def as_path(name: str | PathLike[str]) -> Path | None:
    """The file behind ``name``; None for a network address."""
    text = fspath(name)
    if is_url(text):
        return None
    if text.lower().startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return Path(unquote(urlsplit(text).path))
    return Path(text)


def libav_name(name: str | PathLike[str]) -> str:
    """``name`` as libavformat must be given it: files get the ``file:`` prefix, so that ``a:b.mp4`` is no protocol."""
    path = as_path(name)
    return fspath(name) if path is None else f"file:{path}"
