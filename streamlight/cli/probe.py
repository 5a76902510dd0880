"""Show what a video or image file is, stream by stream."""

from __future__ import annotations

import click

from streamlight.cli import _console


@click.command("probe")
@click.argument("file")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def command(file: str, json_target: str | None) -> None:
    """Show what FILE is, stream by stream, as streamlight reads it."""
    from streamlight.media import probe
    from streamlight.timecode import format_time

    _console.check_json_target(json_target)
    info = probe(file)
    if json_target is not None:
        _console.write_json(json_target, info.to_json())
        return
    color, rate = info.color, info.average_rate
    rows = [
        ("file", info.url),
        ("container", info.container + (" (still image)" if info.is_image else "")),
        ("duration", "unknown" if info.duration is None else f"{format_time(info.duration)} (as the header says)"),
        ("picture", f"stream {info.stream_index}: {info.codec}, {info.width}x{info.height}, {info.pix_fmt}"),
        ("rate", "unknown" if rate is None else f"{float(rate):.3f} fps (as the header says)"),
        ("color", f"{color.matrix}, {color.range} range, {color.primaries} primaries, {color.transfer} transfer"),
        ("pixel aspect", str(info.sample_aspect) if info.sample_aspect != 1 else ""),
        ("rotation", f"{info.rotation} degrees counter-clockwise" if info.rotation else ""),
        ("HDR", info.hdr or ""),
        ("interlaced", "yes" if info.interlaced else ""),
        ("alpha", "yes, left out" if info.alpha else ""),
        ("chapters", str(len(info.chapters)) if info.chapters else ""),
    ]
    for stream in info.streams:
        words = [stream.kind, stream.codec, stream.language or "", *stream.dispositions]
        rows.append((f"stream {stream.index}", ", ".join(word for word in words if word)))
    rows += [(f"tag {key}", value) for key, value in info.metadata.items()]
    shown = [(name, value) for name, value in rows if value]
    width = max(len(name) for name, _ in shown) + 2
    for name, value in shown:
        click.echo(f"{name:<{width}}{value}")
