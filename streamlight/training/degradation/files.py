"""Degrading files: images, radiance maps, clips and folders of them, with the parameters written beside the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from streamlight.enhance.color import planes_from_rgb, rgb_from_planes
from streamlight.errors import ConfigError, MediaError, StreamlightError
from streamlight.media import (
    ColorSpec,
    EncodeSettings,
    Frame,
    SegmentWriter,
    Source,
    SourceInfo,
    check_codec,
    check_destination,
    disk_errors,
    join,
    open_source,
    partial_path,
    plan_encoder,
    write_still,
)
from streamlight.media.destination import publish
from streamlight.training.degradation.camera import DarkCamera, degrade_image
from streamlight.training.degradation.coding import encode_settings, lossless_settings, video_color
from streamlight.training.degradation.jobs import Job, plan
from streamlight.training.degradation.parameters import Codec, DegradationParameters
from streamlight.training.degradation.radiance import is_radiance_name, read_radiance
from streamlight.training.degradation.sampling import DegradationRanges, Kind, sample_parameters

_QUALITY = {"jpeg": 85, "h264": 23, "hevc": 26}


@dataclass(slots=True)
class DegradeReport:
    """What became of one input; the JSON beside the output is this.

    Attributes:
        input: Name of the input file.
        output: Name of the dark file.
        target: Name of the target's file, or None if none was asked for.
        seed: The seed asked for.
        parameters: What was done; None if the job failed before.
        frames: Pictures written.
        losses: What the output does not keep of the input, in words: streams, alpha, bit depth.
        error: Why the job failed, or None.
    """

    input: str
    output: str
    target: str | None
    seed: int
    parameters: DegradationParameters | None = None
    frames: int = 0
    losses: list[str] = field(default_factory=list)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        import streamlight

        plain = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        plain["parameters"] = None if self.parameters is None else self.parameters.to_json()
        return {"streamlight": streamlight.__version__, **plain}


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradeSettings:
    """What is fixed instead of drawn.

    Attributes:
        seed: Of parameters and noise, together with the name of the file.
        exposure: Factor of the light.
        codec: How the result is stored.
        quality: On the codec's scale.
        parameters: All of them; ``exposure``, ``codec`` and ``quality`` still win.
        ranges: What is drawn from.
        overwrite: Whether existing files are replaced.
    """

    seed: int = 0
    exposure: float | None = None
    codec: Codec | None = None
    quality: int | None = None
    parameters: DegradationParameters | None = None
    ranges: DegradationRanges = field(default_factory=DegradationRanges)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2^63 - 1, got {self.seed}")
        if self.exposure is not None and not 0.0 < self.exposure <= 1.0:
            raise ConfigError(f"exposure must be above 0 and at most 1, for example 1/25; got {self.exposure:g}")
        if self.quality is not None and self.codec is None and self.parameters is None:
            raise ConfigError("quality needs a codec: each has a scale of its own")


def degrade_files(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: DegradeSettings | None = None,
    target: str | os.PathLike[str] | None = None,
    finished: Callable[[DegradeReport], None] | None = None,
) -> list[DegradeReport]:
    """Make dark pictures and clips out of bright ones.

    Times, sound and subtitles of a clip go along; what cannot is named in the report. ``<output>.json`` gets the
    parameters and the seed, from which the same call makes the same file. In a folder a bad file does not stop the
    others, and a file's result depends on the seed and its name only, not on its neighbours.

    Args:
        source: An image, ``.hdr`` or ``.exr`` radiance map, video, or a folder of them.
        output: File, or folder. In folders stills become png, and clips keep their container if it holds the codec.
        settings: What is fixed instead of drawn, and the seed.
        target: File (or folder) for what should have been seen: the input with the light that was put into it.
        finished: Called after every file.

    Returns:
        One report per input.

    Raises:
        ConfigError: A value is out of range, two inputs have one output, or a container cannot hold the codec.
        MediaError: The only input cannot be read, or an output cannot be written.
    """
    settings = settings or DegradeSettings()
    jobs, batch = plan(source, output, target)
    reports = []
    for job in jobs:
        report = DegradeReport(job.source.name, job.low.name, job.target.name if job.target else None, settings.seed)
        try:
            _run(job, settings, report)
        except StreamlightError as error:
            if not batch:
                raise
            report.error = str(error)
        reports.append(report)
        if finished is not None:
            finished(report)
    return reports


def _run(job: Job, settings: DegradeSettings, report: DegradeReport) -> None:
    note = job.low.with_name(job.low.name + ".json")
    for path in (job.low, job.target, note):
        if path is not None:
            check_destination(job.source, path, overwrite=settings.overwrite)
    if is_radiance_name(job.source):
        _radiance(job, settings, report)
    else:
        with open_source(job.source, tonemap=True) as opened:
            if opened.info.is_image:
                _still(job, opened, settings, report)
            else:
                _clip(job, opened, settings, report)
    _write_note(note, report, overwrite=settings.overwrite)


def _write_note(path: Path, report: DegradeReport, *, overwrite: bool) -> None:
    partial = partial_path(path)
    try:
        with disk_errors(path):
            partial.write_text(json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n", "utf-8")
        publish(partial, path, overwrite=overwrite)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _generator(settings: DegradeSettings, job: Job, purpose: str) -> torch.Generator:
    """Random numbers for one file and one purpose: files do not disturb each other, nor parameters the noise."""
    digest = hashlib.sha256(f"{settings.seed}/{purpose}/".encode() + os.fsencode(job.source.name)).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _parameters(job: Job, settings: DegradeSettings, kind: Kind) -> DegradationParameters:
    """What is done to a file: given or drawn, with what is fixed put in."""
    found = settings.parameters
    if found is None:
        ranges = settings.ranges
        if kind == "clip":
            ranges = dataclasses.replace(ranges, clips=_clips_that_fit(job.low, ranges, settings.codec))
        generator = _generator(settings, job, "parameters")
        found = sample_parameters(generator, ranges=ranges, kind=kind, exposure=settings.exposure)
    elif settings.exposure is not None:
        found = dataclasses.replace(found, exposure=settings.exposure)
    if settings.codec is None and settings.quality is None:
        return found
    codec = settings.codec or found.coding.codec
    quality = settings.quality if settings.quality is not None else _QUALITY.get(codec)
    try:
        return dataclasses.replace(found, coding=dataclasses.replace(found.coding, codec=codec, quality=quality))
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{job.low.name}: {text}") from error


def _clips_that_fit(path: Path, ranges: DegradationRanges, codec: Codec | None) -> tuple[tuple[Any, float], ...]:
    """The codecs drawn from that the container holds."""
    if codec is not None:
        return ranges.clips
    fitting = []
    for name, weight in ranges.clips:
        try:
            check_codec("h264" if name == "none" else name, path)
        except ConfigError:
            continue
        fitting.append((name, weight))
    if not fitting:
        check_codec("h264", path)  # says what the container holds and what to do
    return tuple(fitting) or ranges.clips


def _still(job: Job, source: Source, settings: DegradeSettings, report: DegradeReport) -> None:
    frame = next(source.frames(), None)
    if frame is None:
        raise MediaError(f"'{job.source}': no picture can be decoded")
    report.parameters = _parameters(job, settings, "still")
    image = rgb_from_planes(frame.planes, frame.color)
    pair = degrade_image(image, report.parameters, generator=_generator(settings, job, "noise"))
    _write_image(pair.low, job.low, job, settings, report, like=frame, info=source.info)
    if job.target is not None:
        _write_image(pair.target, job.target, job, settings, report, like=frame, info=source.info)
    report.frames = 1


def _radiance(job: Job, settings: DegradeSettings, report: DegradeReport) -> None:
    report.parameters = _parameters(job, settings, "still")
    radiance = read_radiance(job.source)
    pair = degrade_image(radiance, report.parameters, generator=_generator(settings, job, "noise"), radiance=True)
    _write_image(pair.low, job.low, job, settings, report)
    if job.target is not None:
        _write_image(pair.target, job.target, job, settings, report)
    report.frames = 1


def _write_image(
    image: Tensor,
    path: Path,
    job: Job,
    settings: DegradeSettings,
    report: DegradeReport,
    *,
    like: Frame | None = None,
    info: SourceInfo | None = None,
) -> None:
    # 16 bit on the way, so that 8-bit RGB comes out as it is; the file has the depth of the source.
    color = ColorSpec(matrix="bt709", range="full", bit_depth=16, chroma="444")
    planes = planes_from_rgb(image, color)
    frame = like or Frame((), color, pts=0, time_base=Fraction(1, 25))
    frame = dataclasses.replace(frame, planes=planes, color=color)
    written = write_still(
        frame, path, info=info, source=None if like is None else job.source, overwrite=settings.overwrite
    )
    report.losses += [loss for loss in written.losses if loss not in report.losses]


def _clip(job: Job, source: Source, settings: DegradeSettings, report: DegradeReport) -> None:
    report.parameters = parameters = _parameters(job, settings, "clip")
    encoding = encode_settings(parameters.coding, job.low)
    check_codec(str(encoding.codec), job.low)
    generator = _generator(settings, job, "noise")
    color = video_color(parameters.coding)
    with ExitStack() as stack:
        low = _ClipWriter(job.low, encoding, source.info, stack)
        target = (
            None if job.target is None else _ClipWriter(job.target, lossless_settings(job.target), source.info, stack)
        )
        camera: DarkCamera | None = None
        for frame in source.frames():
            rgb = rgb_from_planes(frame.planes, frame.color)
            camera = camera or DarkCamera(parameters, rgb)
            pair = camera.record(rgb, generator=generator)
            low.write(frame, pair.low, color)
            if target is not None:
                target.write(frame, pair.target, color)
            report.frames += 1
        if not report.frames:
            raise MediaError(f"'{job.source}': no picture can be decoded")
        # The target first: where the dark clip lies, its target does too.
        losses = [] if target is None else target.publish(job.source, settings.overwrite)
        losses += low.publish(job.source, settings.overwrite)
    report.losses += dict.fromkeys([*losses, *source.stats.notes])


class _ClipWriter:
    """One clip with the times of its source; it appears under its name when it is complete."""

    def __init__(self, path: Path, settings: EncodeSettings, info: SourceInfo, stack: ExitStack) -> None:
        self._path, self._settings, self._info, self._stack = path, settings, info, stack
        with disk_errors(path):
            folder = tempfile.TemporaryDirectory(prefix=".streamlight-", dir=path.parent)
        self._segment = Path(stack.enter_context(folder), "clip")
        self._writer: SegmentWriter | None = None

    def write(self, frame: Frame, image: Tensor, color: ColorSpec) -> None:
        picture = dataclasses.replace(frame, planes=planes_from_rgb(image, color), color=color)
        if self._writer is None:
            aspect, rate = self._info.sample_aspect, self._info.average_rate
            plan = plan_encoder(self._settings, picture, container=self._path, sample_aspect=aspect, rate=rate)
            self._writer = self._stack.enter_context(SegmentWriter(self._segment, plan))
        self._writer.write(picture)

    def publish(self, source: Path, overwrite: bool) -> list[str]:
        """Give the clip its name; returns what it does not keep."""
        assert self._writer is not None
        joined = join([self._writer.close()], source, self._path, info=self._info, overwrite=overwrite)
        return [*joined.losses, *(f"not carried: {lost.what}: {lost.why}" for lost in joined.not_carried)]
