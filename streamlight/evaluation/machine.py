"""What a figure was measured on: processor, memory, system, versions. Never names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from streamlight import __version__
from streamlight.cores import available_cores
from streamlight.media.versions import library_versions

PACKAGES = ("av", "torch", "numba", "numpy", "opencv-python-headless", "kornia", "safetensors", "pydantic")


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, as far as it decides what is measured on it.

    Attributes:
        cpu: Model name of the processor, as it calls itself.
        cores: Cores this process may use.
        cores_online: Cores the machine has.
        memory_bytes: Main memory; 0 where the system does not say.
        system: Operating system and its release, and the processor architecture.
        python: Version of the interpreter.
        versions: Of streamlight, its libraries and FFmpeg's.
    """

    cpu: str
    cores: int
    cores_online: int
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Two lines for people: the machine, and the versions."""
        memory = f", {self.memory_bytes / 2**30:.0f} GiB" if self.memory_bytes else ""
        return [
            f"{self.cpu}, {self.cores} of {self.cores_online} cores{memory}; {self.system}; Python {self.python}",
            ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        ]


def describe_machine() -> Machine:
    """Read what the system says about itself."""
    return Machine(
        cpu=_cpu_model(),
        cores=available_cores(),
        cores_online=os.cpu_count() or 1,
        memory_bytes=_memory(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of streamlight, its libraries, and the FFmpeg libraries inside PyAV."""
    found = {"streamlight": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | library_versions()


def _cpu_model() -> str:
    for key in ("model name", "Model", "Hardware"):
        for line in _read("/proc/cpuinfo").splitlines():
            if line.partition(":")[0].strip() == key:
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "unknown processor"


def _memory() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
