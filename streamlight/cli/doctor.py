"""Say what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamlight.cli import _console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlight.evaluation.doctor import Diagnosis
    from streamlight.media.machine import CardDecoder, EncoderCapability


@click.command("doctor")
@click.option("--json", "json_target", is_flag=False, flag_value="-", metavar="FILE", help="As JSON ('-': to stdout).")
@_console.common_options
def command(json_target: str | None) -> None:
    """Say what this machine can do: devices, decoders, encoders that really open, and what to install for more."""
    from streamlight.evaluation.doctor import diagnose

    _console.check_json_target(json_target)
    found = diagnose()
    if json_target is not None:
        _console.write_json(json_target, found.to_dict())
    if json_target != "-":
        _show(found)


def _show(found: Diagnosis) -> None:
    machine = found.machine
    rows = [
        ("machine", f"{machine.cpu}, {machine.cores} of {machine.cores_online} cores, {_size(machine.memory_bytes)}"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
    ]
    for device in found.devices:
        kind = f", compute capability {device.capability}" if device.capability else ""
        use = "" if device.usable else f" (not used: {device.reason})"
        rows.append(("device", f"{device.name}: {device.description}, {_size(device.memory_bytes)}{kind}{use}"))
    rows.append(("models", ", ".join(found.models)))
    media = found.media
    rows.append(("decodes", ", ".join(media.decoders)))
    on_card = [state.codec for state in media.card_decoders if state.works]
    if on_card:
        rows.append(("decodes on GPU", ", ".join(on_card)))
    for state in media.encoders:
        if state.opens:
            depth = "8 and 10 bit" if any("10" in name for name in state.pixel_formats) else "8 bit"
            kind = f"{'hardware' if state.hardware else 'software'}, {depth}"
            rows.append((f"encodes {state.codec}", f"{state.encoder} ({kind}) into {' '.join(state.containers)}"))
    rows.append(("writes stills", " ".join(media.still_formats)))
    rows += [("does not open", line) for line in (*_closed(media.encoders), *_closed_decoders(media.card_decoders))]
    rows += [("for more", sentence) for sentence in found.advice]
    before = ""
    for name, value in rows:
        click.echo(f"{'' if name == before else name:<16}{value}")
        before = name


def _closed(states: Sequence[EncoderCapability]) -> list[str]:
    """One line for all encoders of a family that fail for the same reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for state in states:
        if not state.opens:
            family = state.encoder.rpartition("_")[2] if state.hardware else state.encoder
            groups.setdefault((family, state.reason), []).append(state.codec)
    return [f"{family} ({', '.join(codecs)}): {reason}" for (family, reason), codecs in groups.items()]


def _closed_decoders(states: Sequence[CardDecoder]) -> list[str]:
    """The same for decoding on a card."""
    groups: dict[str, list[str]] = {}
    for state in states:
        if not state.works:
            groups.setdefault(state.reason, []).append(state.codec)
    return [f"nvdec ({', '.join(codecs)}): {reason}" for reason, codecs in groups.items()]


def _size(count: int) -> str:
    return f"{count / 2**30:.0f} GiB" if count else "unknown memory"
