"""Say what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamlight.cli import _console

if TYPE_CHECKING:
    from streamlight.evaluation.doctor import Diagnosis
    from streamlight.media.capabilities import EncoderState


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
        use = "" if device.usable else " (not used yet)"
        rows.append(("device", f"{device.name}: {device.description}, {_size(device.memory_bytes)}{use}"))
    rows.append(("models", ", ".join(found.models)))
    rows.append(("decodes", ", ".join(name for name, there in found.media.decoders.items() if there)))
    for state in found.media.encoders:
        if state.works:
            kind = "hardware" if state.hardware else "software"
            rows.append(
                (f"encodes {state.codec}", f"{state.encoder} ({kind}, {'8 and 10' if state.ten_bit else '8'} bit)")
            )
    rows += [("does not open", line) for line in _closed(found.media.encoders)]
    rows += [("writes", f"{suffix}: {', '.join(codecs)}") for suffix, codecs in found.media.containers.items()]
    rows += [("for more", sentence) for sentence in found.advice]
    before = ""
    for name, value in rows:
        click.echo(f"{'' if name == before else name:<16}{value}")
        before = name


def _closed(states: list[EncoderState]) -> list[str]:
    """One line for all encoders of a family that fail for the same reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for state in states:
        if not state.works:
            groups.setdefault((state.hardware or state.encoder, state.reason), []).append(state.codec)
    return [f"{family} ({', '.join(codecs)}): {reason}" for (family, reason), codecs in groups.items()]


def _size(count: int) -> str:
    return f"{count / 2**30:.0f} GiB" if count else "unknown memory"
