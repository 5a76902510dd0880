"""Addresses of sinks, taken apart; what is wrong with one is told without the password in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from streamlight.errors import ConfigError
from streamlight.media.urls import redact


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A network address.

    Attributes:
        scheme: In lower case.
        host: Name or number.
        port: None for the scheme's own.
        user: None where there is none.
        password: Likewise.
        path: Behind the host, as written.
        query: Behind the question mark, as written.
    """

    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    path: str
    query: str


def split_address(url: str, schemes: Collection[str]) -> Address:
    """Take an address apart.

    Raises:
        ConfigError: It is none with one of these schemes.
    """
    scheme = url.partition("://")[0].lower()
    wanted = " or ".join(f"{name}://host/path" for name in schemes)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit(f"{scheme}://")
    if "#" in url or (not host and "@" in url):
        # Such a character in a password ends it early, so that what is left of it could be shown.
        raise ConfigError(
            f"event sink {scheme}://…: is no address; write '#', '/', '?' and '@' in user and password as %23, %2F, "
            "%3F and %40"
        )
    if scheme not in schemes or not host:
        raise ConfigError(f"event sink {redact(url)}: is no address, expected {wanted}")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Address(scheme, host, port, user, password, parts.path, parts.query)
