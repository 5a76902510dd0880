"""A TCP proxy on loopback that spoils a connection on demand: silence, a closed or broken line, a thin one."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_CHUNK = 65536
_HELD = 4 * _CHUNK
_BREAK = struct.pack("ii", 1, 0)


class _Pipe:
    """One direction of one connection: what was read from ``source`` and is not yet written to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.held = bytearray()
        self.ended = False
        self.allowed = 0.0
        self.refilled = time.monotonic()

    def move(self, rate: float | None) -> None:
        """Read and write what goes without waiting, at most ``rate`` bytes a second.

        Raises:
            OSError: One side is broken.
        """
        now = time.monotonic()
        if rate is not None:
            self.allowed = min(self.allowed + rate * (now - self.refilled), max(rate / 4, 1))
        self.refilled = now
        if not self.ended and len(self.held) < (_HELD if rate is None else _CHUNK):
            with suppress(BlockingIOError):
                data = self.source.recv(_CHUNK)
                self.held += data
                self.ended = not data
        part = self.held if rate is None else self.held[: int(self.allowed)]
        if part:
            with suppress(BlockingIOError):
                sent = self.sink.send(part)
                self.allowed -= sent
                del self.held[:sent]
        if self.ended and not self.held:
            raise ConnectionError("closed in good order")


class FaultProxy:
    """Forwards TCP connections from a port of its own to another one on this machine, with faults on demand.

    A context manager; the methods may be called from any thread. A fault stays until it is taken back.

    Attributes:
        port: Port to connect to, chosen by the system.
    """

    def __init__(self, target_port: int) -> None:
        """Listen at once.

        Args:
            target_port: Port on 127.0.0.1 that connections are forwarded to; nobody need listen there yet.
        """
        self._target = target_port
        self._listener: socket.socket | None = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[_Pipe, _Pipe]] = []
        self._frozen = False
        self._rate: float | None = None
        self._closing = False
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._pairs)

    def freeze(self) -> None:
        """Forward nothing more; connections stay open, new ones are accepted and silent."""
        self._frozen = True

    def thaw(self) -> None:
        """Forward again, beginning with what came meanwhile and still fitted the buffers."""
        self._frozen = False

    def slow(self, bytes_per_second: float | None) -> None:
        """Forward at most so much in each direction of each connection; None lifts the limit.

        Raises:
            ValueError: Not positive.
        """
        if bytes_per_second is not None and not bytes_per_second > 0:
            raise ValueError(f"bytes_per_second must be positive, got {bytes_per_second = }")
        self._rate = bytes_per_second

    def cut(self) -> None:
        """Close all connections in good order (FIN), as an access point that goes away politely."""
        self._each(lambda sock: None)

    def reset(self) -> None:
        """Break all connections off (RST)."""
        self._each(lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BREAK))

    def down(self) -> None:
        """Break all connections off and refuse new ones."""
        with self._lock:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            self.reset()

    def up(self) -> None:
        """Accept connections again after :meth:`down`."""
        with self._lock:
            if self._listener is None:
                self._listener = self._listen(self.port)

    def close(self) -> None:
        """Close everything and end the thread."""
        self._closing = True
        self._thread.join(5)
        with self._lock:
            self.cut()
            if self._listener is not None:
                self._listener.close()
                self._listener = None

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        listener.setblocking(False)
        return listener

    def _each(self, prepare: Callable[[socket.socket], None]) -> None:
        with self._lock:
            for forth, _ in self._pairs:
                for sock in (forth.source, forth.sink):
                    with suppress(OSError):
                        prepare(sock)
                    sock.close()
            self._pairs.clear()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                self._accept()
                waiting = self._pump() if not self._frozen else []
            if not waiting:
                time.sleep(0.01)
                continue
            with selectors.DefaultSelector() as selector:
                try:
                    for sock in waiting:
                        selector.register(sock, selectors.EVENT_READ)
                except ValueError:  # closed by another thread meanwhile
                    continue
                selector.select(0.02 if self._rate is None else 0)
            if self._rate is not None:
                time.sleep(0.01)

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            far.settimeout(2)
            far.connect(("127.0.0.1", self._target))
        except OSError:
            far.close()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BREAK)
            near.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((_Pipe(near, far), _Pipe(far, near)))

    def _pump(self) -> list[socket.socket]:
        """Move what can be moved; returns the sockets to wait for."""
        for pair in list(self._pairs):
            try:
                for pipe in pair:
                    pipe.move(self._rate)
            except OSError:
                for sock in (pair[0].source, pair[0].sink):
                    sock.close()
                self._pairs.remove(pair)
        sockets = [pipe.source for pair in self._pairs for pipe in pair if len(pipe.held) < _CHUNK]
        return [*sockets, *([self._listener] if self._listener is not None else [])]
