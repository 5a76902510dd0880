"""An RTSP server that stands in for cameras and for a media server; run by :mod:`streamlight.evaluation.live_server`.

This file is a script for the *system's* Python, which has GStreamer's bindings (Debian: ``python3-gi``,
``gir1.2-gst-rtsp-server-1.0`` and the plugins good, bad and ugly). It therefore imports nothing of streamlight.

The first line on stdin is a JSON object (:class:`Server` reads it), each following one a request; every line is
answered by one line of JSON on stdout. The process ends with its stdin, so it cannot outlive whoever started it.

Cameras send pictures that were coded before: what a client gets costs the machine next to nothing here. Every session
begins with a key frame and with its timestamps at zero, as cameras do.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

SECOND = 1_000_000_000
NEEDED = ("appsrc", "appsink", "x264enc", "h264parse", "rtph264pay", "rtph264depay", "mpegtsmux", "videotestsrc")


class Clip:
    """Coded pictures in the order they are sent: (decoding time, presentation time, key, bytes), times in ns from 0."""

    def __init__(self, order: dict[str, Any]) -> None:
        width, height = order["size"]
        rate = int(order["rate"] or 15)
        if order["source"] == "testsrc":
            count = rate * 4
            head = (
                f"videotestsrc num-buffers={count} pattern={order['pattern']} ! "
                f"video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 ! "
                f"x264enc speed-preset=ultrafast bframes=0 key-int-max={rate} pass=quant quantizer=26 ! "
                "video/x-h264,profile=main"
            )
        else:
            place = order["source"].replace("\\", "\\\\").replace('"', '\\"')
            head = f'filesrc location="{place}" ! parsebin'
        self.units = _units(f"{head} ! h264parse config-interval=-1", rate)
        if not self.units:
            raise ValueError(f"{order['source']}: holds no H.264 picture")
        times = [unit[1] for unit in self.units]
        step = (max(times) - min(times)) // max(len(times) - 1, 1) or SECOND // rate
        if order["rate"]:
            self.units = [
                (dts * SECOND // (rate * step), pts * SECOND // (rate * step), key, data)
                for dts, pts, key, data in self.units
            ]
            step = SECOND // rate
        self.span = step * len(self.units)


def _units(head: str, rate: int) -> list[tuple[int, int, bool, bytes]]:
    """All access units of a pipeline's output."""
    caps = "video/x-h264,stream-format=byte-stream,alignment=au"
    pipeline = Gst.parse_launch(f"{head} ! {caps} ! appsink name=units sync=false")
    sink = pipeline.get_by_name("units")
    pipeline.set_state(Gst.State.PLAYING)
    found: list[tuple[int, int, bool, bytes]] = []
    while (sample := sink.emit("try-pull-sample", 20 * SECOND)) is not None:
        buffer = sample.get_buffer()
        guess = len(found) * SECOND // rate
        pts = guess if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        dts = pts if buffer.dts == Gst.CLOCK_TIME_NONE else buffer.dts
        key = not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        found.append((dts, pts, key, buffer.extract_dup(0, buffer.get_size())))
    pipeline.set_state(Gst.State.NULL)
    first = min((unit[1] for unit in found), default=0)
    return [(dts - first, pts - first, key, data) for dts, pts, key, data in found]


class Player:
    """One running medium: the clip sent round and round into an appsrc, at its own pace."""

    def __init__(self, clip: Clip, source: Any) -> None:
        self.clip, self.source = clip, source
        self.begun = time.monotonic_ns()
        self.shift = 0
        self.turn, self.index = 0, 0
        self.waiting: Clip | None = None
        self.held_until = 0

    def due(self) -> int:
        """When the next picture is to be sent, on the monotonic clock, ns."""
        return max(self.begun + self.turn + self.clip.units[self.index][0], self.held_until)

    def send(self) -> None:
        """Send the next picture."""
        _, pts, key, data = self.clip.units[self.index]
        if key and self.waiting is not None:
            self._change()
            _, pts, key, data = self.clip.units[0]
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = max(self.turn + pts + self.shift, 0)
        buffer.dts = Gst.CLOCK_TIME_NONE
        self.source.emit("push-buffer", buffer)
        self.index += 1
        if self.index == len(self.clip.units):
            self.index, self.turn = 0, self.turn + self.clip.span

    def jump(self, clock: int) -> None:
        """Set the media clock, ns; what is sent next has that timestamp."""
        top = self.source
        while top.get_parent() is not None:
            top = top.get_parent()
        sinks = top.iterate_all_by_element_factory_name("appsink")
        while (found := sinks.next())[0] == Gst.IteratorResult.OK:
            found[1].set_property("sync", False)  # would wait for a time that lies ahead
        self.shift = clock - self.turn - self.clip.units[self.index][1]

    def _change(self) -> None:
        """Go over to the other clip: pictures of another size in the same session."""
        assert self.waiting is not None
        self.turn += self.clip.units[self.index][1]
        self.clip, self.index, self.waiting = self.waiting, 0, None


class Camera:
    """One PLAY mount: a factory of media and the players behind them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.clip = Clip(order)
        self.players: list[Player] = []
        self.sent = 0
        caps = "video/x-h264,stream-format=byte-stream,alignment=au"
        sound = " audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8" if order["audio"] else ""
        self.factory = GstRtspServer.RTSPMediaFactory()
        self.factory.set_launch(
            f"( appsrc name=pictures is-live=true format=time max-bytes=0 caps={caps} ! h264parse ! "
            f"rtph264pay name=pay0 pt=96 timestamp-offset={int(order['first_timestamp'] * 90_000)}"
            f"{sound} )"
        )
        self.factory.set_shared(True)
        self.factory.connect("media-configure", self._configure)

    def _configure(self, factory: Any, media: Any) -> None:
        player = Player(self.clip, media.get_element().get_by_name_recurse_up("pictures"))
        media.connect("unprepared", lambda _: self.players.remove(player))
        self.players.append(player)


class Recording:
    """One RECORD mount: counts what comes, and keeps it as MPEG-TS if asked to."""

    def __init__(self, name: str, folder: str | None) -> None:
        self.name, self.folder = name, folder
        self.sessions = self.open = self.packets = self.frames = self.keys = self.backwards = 0
        self.clock: tuple[int, bool] | None = None
        self.last_arrival = 0.0
        self.size: list[int] = []
        self.files: list[str] = []
        keep = " t. ! queue ! mpegtsmux ! filesink name=file async=false sync=false" if folder else ""
        self.factory = GstRtspServer.RTSPMediaFactory()
        self.factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        self.factory.set_latency(0)
        self.factory.set_launch(
            "( rtph264depay name=depay0 ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! "
            f"tee name=t t. ! queue ! appsink name=seen sync=false async=false emit-signals=true{keep} )"
        )
        self.factory.connect("media-configure", self._configure)

    def _configure(self, factory: Any, media: Any) -> None:
        self.sessions += 1
        self.open += 1
        self.clock = None
        media.connect("unprepared", self._ended)
        element = media.get_element()
        if self.folder:
            self.files.append(os.path.join(self.folder, f"{self.name.replace('/', '_')}-{self.sessions}.ts"))
            element.get_by_name_recurse_up("file").set_property("location", self.files[-1])
        element.get_by_name_recurse_up("seen").connect("new-sample", self._seen)
        packets = element.get_by_name_recurse_up("depay0").get_static_pad("sink")
        packets.add_probe(Gst.PadProbeType.BUFFER, self._packet)

    def _ended(self, media: Any) -> None:
        self.open -= 1

    def _packet(self, pad: Any, info: Any) -> Any:
        """Look at the timestamp in an RTP packet; those of buffers are GStreamer's, smoothed over arrival."""
        self.packets += 1
        head = info.get_buffer().extract_dup(0, 12)
        last, stamp = bool(head[1] & 0x80), int.from_bytes(head[4:8], "big")
        if self.clock is not None:
            before, ended = self.clock
            step = (stamp - before) & 0xFFFFFFFF
            self.backwards += step >= 1 << 31 or (ended and step == 0)
        self.clock = stamp, last
        return Gst.PadProbeReturn.OK

    def _seen(self, sink: Any) -> Any:
        sample = sink.emit("pull-sample")
        buffer, form = sample.get_buffer(), sample.get_caps().get_structure(0)
        self.frames += 1
        self.keys += not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        self.last_arrival = time.monotonic()
        self.size = [form.get_int("width")[1], form.get_int("height")[1]]
        return Gst.FlowReturn.OK

    def status(self) -> dict[str, Any]:
        """What came so far."""
        quiet = time.monotonic() - self.last_arrival if self.frames else None
        names = ("sessions", "open", "packets", "frames", "keys", "backwards", "size", "files")
        return {name: getattr(self, name) for name in names} | {"quiet": quiet}


class Server:
    """The RTSP server and what it is told."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address("127.0.0.1")
        self.server.set_service(str(order["port"]))
        self.cameras = {name: Camera(each) for name, each in order["cameras"].items()}
        self.recordings = {name: Recording(name, order["record_to"]) for name in order["record"]}
        self.connected = 0
        self.server.connect("client-connected", self._client)
        mounts = self.server.get_mount_points()
        factories = {name: mount.factory for name, mount in self.cameras.items()}
        factories |= {name: mount.factory for name, mount in self.recordings.items()}
        for name, factory in factories.items():
            if order["credentials"]:
                _protect(factory)
            mounts.add_factory(f"/{name}", factory)
        if order["credentials"]:
            self._ask_for(*order["credentials"])
        if not self.server.attach(None):
            raise OSError(f"port {order['port']} is in use")
        threading.Thread(target=self._pump, daemon=True).start()

    def _client(self, server: Any, client: Any) -> None:
        self.connected += 1

    def _ask_for(self, user: str, password: str) -> None:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        self.server.set_auth(auth)

    def _pump(self) -> None:
        """Send every picture of every player when it is due."""
        while True:
            now = time.monotonic_ns()
            nearest = now + SECOND // 50
            for camera in self.cameras.values():
                for player in list(camera.players):
                    while player.due() <= now:
                        player.send()
                        camera.sent += 1
                    nearest = min(nearest, player.due())
            time.sleep(max(nearest - time.monotonic_ns(), SECOND // 1000) / SECOND)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one request."""
        camera = self.cameras.get(request.get("mount", ""))
        match request["do"]:
            case "status":
                cameras = {n: {"sent": c.sent, "playing": len(c.players)} for n, c in self.cameras.items()}
                records = {name: recording.status() for name, recording in self.recordings.items()}
                return {"connected": self.connected, "cameras": cameras, "record": records}
            case "kick":
                self.server.client_filter(lambda *_: GstRtspServer.RTSPFilterResult.REMOVE)
            case "change":
                assert camera is not None
                camera.clip = Clip(camera.order | {"size": request["size"]})
                for player in camera.players:
                    player.waiting = camera.clip
            case "shift":
                assert camera is not None
                for player in camera.players:
                    player.jump(int(request["seconds"] * SECOND))
            case "pause":
                assert camera is not None
                for player in camera.players:
                    player.held_until = time.monotonic_ns() + int(request["seconds"] * SECOND)
            case other:
                raise ValueError(f"unknown request {other!r}")
        return {}


def _protect(factory: Any) -> None:
    rights = GstRtspServer.RTSPPermissions()
    rights.add_permission_for_role("user", "media.factory.access", True)
    rights.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(rights)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _listen(server: Server) -> None:
    """Answer requests until stdin ends, and the process with it."""
    for line in sys.stdin:
        try:
            _say(server.answer(json.loads(line)))
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)


def main() -> int:
    """Serve; with ``--check`` only say whether this Python and GStreamer could."""
    Gst.init(None)
    missing = [name for name in NEEDED if Gst.ElementFactory.find(name) is None]
    if missing:
        print(f"GStreamer lacks {', '.join(missing)}", file=sys.stderr)
        return 1
    if sys.argv[1:] == ["--check"]:
        return 0
    try:
        server = Server(json.loads(sys.stdin.readline()))
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        return 1
    _say({"port": server.server.get_bound_port()})
    threading.Thread(target=_listen, args=(server,), daemon=True).start()
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
