"""An MQTT broker of the distribution's mosquitto on a free port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATHS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def has_mosquitto() -> bool:
    return shutil.which("mosquitto", path=PATHS) is not None


class Mosquitto:
    """A broker on 127.0.0.1; ``kill()`` and ``start()`` again keep the port."""

    def __init__(self, *, credentials: tuple[str, str] | None = None) -> None:
        self.port = 0
        self._folder = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self._process: subprocess.Popen[bytes] | None = None
        self._credentials = credentials

    @property
    def url(self) -> str:
        user = "{}:{}@".format(*self._credentials) if self._credentials else ""
        return f"mqtt://{user}127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        for _ in range(5):
            port = self.port or _free_port()
            self._process = subprocess.Popen(
                [str(shutil.which("mosquitto", path=PATHS)), "-c", str(self._configure(port))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            if self._accepts(port):
                self.port = port
                return self
            self.kill()
        raise RuntimeError("mosquitto did not start")

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()

    def _configure(self, port: int) -> Path:
        folder = Path(self._folder.name)
        lines = [
            f"listener {port} 127.0.0.1",
            "persistence false",
            f"allow_anonymous {str(not self._credentials).lower()}",
        ]
        if self._credentials:
            passwords = folder / "passwords"
            passwords.write_text("{}:{}\n".format(*self._credentials))
            passwords.chmod(0o600)
            tool = str(shutil.which("mosquitto_passwd", path=PATHS))
            subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True)
            folder.chmod(0o755)
            passwords.chmod(0o644)  # as root, mosquitto gives up its rights before it reads this
            lines.append(f"password_file {passwords}")
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return config

    def _accepts(self, port: int) -> bool:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
