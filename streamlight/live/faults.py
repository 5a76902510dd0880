"""Why a camera is away: one of a few reasons, and a sentence for people."""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from typing import Literal

import av

from streamlight.live.address import Address
from streamlight.media.urls import redact

Reason = Literal["auth", "not_found", "refused", "timeout", "codec", "tls", "ended", "other"]

PROBE_TIMEOUT = 1.0
"""Seconds for a trial connection."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a stream could not be opened, or ended.

    Attributes:
        reason: ``auth`` wrong or missing credentials; ``not_found`` no such host, path, file or device; ``refused``
            nobody listens there; ``timeout`` no answer, or no more pictures; ``codec`` no video that can be decoded;
            ``tls`` no encrypted connection; ``ended`` the peer closed the stream; ``other``.
        message: What happened, for people; credentials redacted.
        unreachable: Whether nothing at all came back from the host, so that attempts take long: a trial connection to
            the port is a quicker way to learn that it is back.
        permanent: Whether trying again cannot help.
    """

    reason: Reason
    message: str
    unreachable: bool = False
    permanent: bool = False


def classify(error: BaseException, address: Address, *, waited: bool = False) -> Fault:
    """The fault behind an error that opening or reading raised.

    Args:
        error: As raised; libav's own error is looked for along its causes.
        address: What was opened.
        waited: Whether the call went on until its time-out: libav then reports whatever it was in the middle of.
    """
    cause = _libav_error(error)
    if cause is None:
        return Fault("codec", redact(error))
    where = f"'{address.shown}'"
    if isinstance(cause, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return Fault("auth", f"{where} does not accept the credentials; check user and password in the address")
    if isinstance(cause, av.error.HTTPNotFoundError):
        return Fault("not_found", f"{where} has no such stream; check the path of the address")
    if isinstance(cause, (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError)):
        scheme = address.url.partition("://")[0]
        return Fault("other", f"{where}: this build of FFmpeg cannot read {scheme} addresses", permanent=True)
    if isinstance(cause, (av.error.DecoderNotFoundError, av.error.PatchWelcomeError)):
        return Fault("codec", f"{where} sends video that this build of FFmpeg does not decode")
    if waited or isinstance(cause, (av.error.ExitError, av.error.TimeoutError)):
        return silence(address)
    return _by_number(cause, address)


def silence(address: Address) -> Fault:
    """The fault of a peer that says nothing: perhaps not even its host is there any more."""
    gone = probe(address) if address.listens else None
    return gone or Fault("timeout", f"'{address.shown}' does not answer")


def _by_number(cause: Exception, address: Address) -> Fault:
    """Faults that libav reports as a system error or in general terms."""
    where = f"'{address.shown}'"
    number = getattr(cause, "errno", None)
    if number == errno.ENOENT:
        return Fault("not_found", f"{where} does not exist")
    if number == errno.ENODEV:
        return Fault("not_found", f"{where} is no device that can be read, or was unplugged")
    if number in (errno.EACCES, errno.EPERM) and address.kind in ("file", "device"):
        return Fault("auth", f"{where} may not be read by this user; check its permissions")
    if number == errno.ETIMEDOUT:
        return silence(address)
    if number in (errno.ECONNRESET, errno.EPIPE) or isinstance(cause, EOFError):
        return Fault("ended", f"{where} closed the connection")
    if isinstance(cause, av.error.InvalidDataError):
        if address.is_live:  # libav says so, too, where a server hangs up in the middle of opening
            return Fault("other", f"{where} hung up, or does not speak the protocol of the address")
        return Fault("codec", f"{where} holds no video that can be read")
    if number == errno.ECONNREFUSED:
        return _refused(address)
    if number in (errno.EIO, errno.EHOSTUNREACH, errno.ENETUNREACH) and address.listens:
        return probe(address) or _behind_open_port(cause, address)
    return Fault("other", f"{where}: {redact(getattr(cause, 'strerror', None) or cause)}")


def _refused(address: Address) -> Fault:
    # No reason to try the port first: opening fails at once, too, and some servers accept a single connection only.
    return Fault("refused", f"'{address.shown}': nobody listens on port {address.port}")


def _libav_error(error: BaseException) -> Exception | None:
    """The first error of libav or of the system along the chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (av.error.FFmpegError, OSError)):
            return seen
        seen = seen.__cause__
    return None


def probe(address: Address, *, timeout: float = PROBE_TIMEOUT) -> Fault | None:
    """Try a connection to the port: None if there is one, else what is wrong. Much cheaper than opening the stream."""
    where = f"'{address.shown}'"
    try:
        socket.create_connection((address.host, address.port or 0), timeout).close()
    except socket.gaierror:
        return Fault("not_found", f"{where}: the host name is not known", unreachable=True)
    except ConnectionRefusedError:
        return _refused(address)
    except TimeoutError:
        return Fault("timeout", f"{where}: the host does not answer", unreachable=True)
    except (OSError, UnicodeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        return Fault("other", f"{where}: {redact(text)}", unreachable=True)
    return None


def _behind_open_port(cause: Exception, address: Address) -> Fault:
    """The port answers, yet libav failed with a general error: with TLS, the handshake tells more."""
    where = f"'{address.shown}'"
    if address.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((address.host, address.port or 0), PROBE_TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=address.host),
            ):
                pass
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            return Fault("tls", f"{where}: no encrypted connection ({redact(why)}); is it a TLS port?")
    return Fault("other", f"{where}: {redact(getattr(cause, 'strerror', None) or cause)}")
