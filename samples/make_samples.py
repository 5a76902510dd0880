"""Make the clips of this folder again.

    python samples/make_samples.py --vtest /usr/share/doc/opencv-doc/examples/data/vtest.avi

Writes ``yard.mp4`` and ``drive.mp4`` beside this file (or to ``--out``). The pictures depend on the seed alone; the
bytes also on the versions of x264 and numpy. ``--only drive`` needs nothing but this folder and streamlight's own
dependencies; ``vtest.avi`` comes with Debian's package ``opencv-doc``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import drive
import numpy as np
import sound
import yard

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
DRIVE_SECONDS = 10
SOUND_DELAY = Fraction(2, 5)  # the microphone starts later than the picture
CLOCK = 90000
STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def phone_times(seed: int) -> list[int]:
    """Presentation times in 1/90000 s of a phone in the dark: about 24 a second, uneven, sometimes one missing."""
    rng = np.random.default_rng([seed, 4])
    times, now = [], 0
    while now < DRIVE_SECONDS * CLOCK:
        times.append(now)
        step = 3750 if len(times) % 60 < 40 else 3003  # 24 a second, then 30 where the auto exposure allows
        now += step + int(rng.integers(-160, 161)) + (3003 if rng.random() < 0.03 else 0)
    return times


def _captions(stream: av.stream.Stream) -> Iterator[av.Packet]:
    """One line a second, time and speed, as 3GPP timed text: two bytes of length, then UTF-8."""
    for second in range(DRIVE_SECONDS):
        text = f"23:52:{second + 18:02d}  {round(drive.SPEED * 3.6) + (second % 3) - 1} km/h".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = second * 1000
        packet.duration = 900  # a gap before the next one, where the muxer puts an empty sample
        yield packet


def write_drive(target: Path, *, seed: int) -> None:
    """Render the night drive and write it with sound, captions, chapters and a variable frame rate."""
    scene, times = drive.Street(seed), phone_times(seed)
    rng = np.random.default_rng([seed, 5])
    options = {"movflags": "+faststart", "video_track_timescale": str(CLOCK)}
    with av.open(str(target), "w", options=options) as out:
        out.metadata.update({"title": "Night drive", "comment": "Rendered by samples/make_samples.py"})
        video = out.add_stream("libx264", rate=30, options={"preset": "slow", "crf": "24.5", "threads": "1"})
        video.width, video.height, video.pix_fmt = drive.WIDTH, drive.HEIGHT, "yuv420p"
        context = video.codec_context
        context.time_base = video.time_base = Fraction(1, CLOCK)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        audio = out.add_stream("aac", rate=sound.RATE, layout="mono", bit_rate=48000)
        audio.metadata["language"] = "eng"
        text = out.add_stream("mov_text")
        text.metadata["language"] = "eng"
        text.time_base = Fraction(1, 1000)
        text.codec_context.subtitle_header = STYLE  # the encoder refuses to open without one
        chapters = [(0, 5000, "Lamps"), (5000, DRIVE_SECONDS * 1000, "Oncoming cars")]
        out.set_chapters(
            [
                {"id": i, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for i, (a, b, title) in enumerate(chapters)
            ]
        )
        out.start_encoding()
        waiting = [*_captions(text), *_sound(audio, seed=seed)]
        waiting.sort(key=lambda packet: packet.dts * packet.time_base)
        for pts in times:
            picture = av.VideoFrame.from_ndarray(scene.picture(pts / CLOCK, rng), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
            picture.pts, picture.time_base = pts, Fraction(1, CLOCK)
            while waiting and waiting[0].dts * waiting[0].time_base <= Fraction(pts, CLOCK):
                out.mux(waiting.pop(0))
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        out.mux(waiting)


def _sound(stream: av.AudioStream, *, seed: int) -> Iterator[av.Packet]:
    passes = [car.start / car.closing for car in drive.CARS if car.oncoming]
    seconds = DRIVE_SECONDS - float(SOUND_DELAY)
    samples = sound.track(seconds, [at - float(SOUND_DELAY) for at in passes], seed=seed)
    for first in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = sound.RATE, Fraction(1, sound.RATE)
        frame.pts = first + int(SOUND_DELAY * sound.RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    parser.add_argument("--vtest", type=Path, default=VTEST, help="the daylight clip of Debian's opencv-doc")
    parser.add_argument("--only", choices=["yard", "drive"], help="make one clip only")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only != "drive":
        if not options.vtest.is_file():
            parser.error(
                f"{options.vtest} not found: install Debian's package opencv-doc or name the file with --vtest"
            )
        yard.write(options.vtest, options.out / "yard.mp4", seed=options.seed)
    if options.only != "yard":
        write_drive(options.out / "drive.mp4", seed=options.seed)
    for clip in sorted(options.out.glob("*.mp4")):
        print(f"{clip.name}: {clip.stat().st_size} bytes")


if __name__ == "__main__":
    main()
