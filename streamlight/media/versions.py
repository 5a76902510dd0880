"""Versions of the libraries that read and write video."""

from __future__ import annotations

import av


def library_versions() -> dict[str, str]:
    """FFmpeg's release and its libraries, as bundled with PyAV: name to version, for example ``"61.3.100"``."""
    release = str(getattr(av, "ffmpeg_version_info", "") or "unknown release")
    libraries = {name: ".".join(str(n) for n in number) for name, number in av.library_versions.items()}
    return {"ffmpeg": release} | {name: libraries[name] for name in ("libavcodec", "libavformat") if name in libraries}
