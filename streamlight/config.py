"""The one schema of everything that can be set.

YAML presets, command-line options, keyword arguments of :func:`streamlight.enhance_video` and the reference page are
all derived from :class:`Config`: an option exists here and nowhere else. Values come from four layers, the later
winning: the defaults below, a preset, a configuration file, explicit options.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from pydantic.fields import FieldInfo

from streamlight.errors import ConfigError
from streamlight.timecode import parse_time


def _words(value: Any) -> Any:
    """YAML 1.1 reads ``off`` and ``on`` as booleans; here they are words."""
    return {False: "off", True: "on"}[value] if isinstance(value, bool) else value


def _codec(value: Any) -> Any:
    """Other names of the same codecs."""
    return {"h265": "hevc", "x265": "hevc", "x264": "h264", "avc": "h264"}.get(str(value).lower(), value)


def _several(value: Any) -> Any:
    """A text with commas, or a list."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """A boolean is no number, although Python counts it as one."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


Seconds = Annotated[
    Fraction | None, BeforeValidator(parse_time), PlainSerializer(lambda v: None if v is None else str(v))
]
Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]


def _option(
    default: Any, text: str, *, option: str = "", identity: bool = True, expected: str = "", **limits: Any
) -> Any:
    """A field that is also an option.

    Args:
        default: Value when nothing is said.
        text: Help for people, one or two sentences.
        option: Name as an option, when it differs from the field's.
        identity: Whether the value decides what is written. Jobs that differ here cannot be resumed by one another.
        expected: What is allowed, in words, where type and limits do not say it.
        limits: ``ge``, ``le``, ``pattern`` and so on, as for pydantic's ``Field``.
    """
    extra: dict[str, Any] = {"option": option, "identity": identity, "expected": expected}
    return Field(default, description=text, json_schema_extra=extra, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputConfig(_Section):
    """What is read, and how."""

    start: Seconds = _option(None, "Begin here, counted from the start of the video.")
    end: Seconds = _option(None, "End before this time, counted likewise. Default: to the end.")
    join: bool = _option(
        False, "Join recordings that a camera cut into files: consecutive files of a folder become one video."
    )
    deinterlace: Annotated[Literal["auto", "off", "all"], BeforeValidator(_words)] = _option(
        "auto", "Deinterlace: the frames flagged as interlaced (auto), none, or all."
    )
    tonemap: bool = _option(False, "Convert HDR (PQ or HLG) video to SDR. Without it, HDR input is refused.")
    max_damaged: Whole = _option(
        300, "Give up after this many damaged packets in a row.", ge=1, le=1_000_000, identity=False
    )
    decoder_threads: Whole | None = _option(
        None, "Threads for decoding. Default: the decoder's choice.", ge=1, le=64, identity=False
    )


class ModelConfig(_Section):
    """What brightens the picture."""

    name: str = _option(
        "tonenet",
        "Model to enhance with.",
        option="model",
        expected="a name that 'streamlight models' lists",
        min_length=1,
    )
    strength: Real = _option(1.0, "How far to go: 0 leaves the picture as it is, 1 is the full effect.", ge=0, le=1)
    denoise: Real = _option(1.0, "Share of the denoising that goes with the gain; 0 is none.", ge=0, le=1)
    highlights: Real = _option(
        0.0, "How far lamps and headlights, and the glare around them, stay as the camera saw them.", ge=0, le=1
    )
    time_constant: Real = _option(
        1.3, "Seconds over which exposure decisions are smoothed; 0 decides anew on every frame.", ge=0, le=60
    )
    stability: Real = _option(
        0.5,
        "llflow, glare, lldiffusion: how far the latent is averaged along the motion; 0 is frame by frame.",
        ge=0,
        le=1,
    )
    working_size: Whole = _option(480, "Long side of the small copy that the model sees, in pixels.", ge=64, le=4096)
    keyframe_interval: Whole = _option(
        1,
        "The model decides on every so many frames, and where motion or light has outdated its decision.",
        ge=1,
        le=1000,
    )
    keyframe_async: bool = _option(
        False, "Frames do not wait for the model, which works on the newest; the result then depends on timing."
    )
    weights: str | None = _option(
        None, "Weights file for a model that comes without.", expected="a .safetensors or .pth file", min_length=1
    )
    mode: Literal["auto", "guided", "direct"] = _option(
        "auto",
        "Where the model decides: on a small copy (guided), on every pixel (direct), or as it is made for (auto).",
    )
    direct_limit: Whole = _option(
        1280 * 720,
        "Mode auto: largest frame, in pixels, that llflow, glare and lldiffusion see as a whole.",
        ge=0,
        le=2**31 - 1,
    )
    look: Literal["night", "day"] | None = _option(
        None,
        "tonenet: night keeps the dark dark and lamps in shape, day is as bright as daylight. Default: night.",
        expected="one of night, day",
    )
    denoiser: Annotated[Literal["on", "off"] | None, BeforeValidator(_words)] = _option(
        None, "tonenet: off changes tone only. Default: on.", expected="one of on, off"
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = _option(
        None,
        "Working precision of a network. Default: the model's own.",
        expected="one of float32, bfloat16, float16",
    )
    seed: Whole = _option(0, "Seed of the noise that sampling models start from.", ge=0, le=2**63 - 1)
    temperature: Real | None = _option(
        None, "Spread of the latent of llflow, glare and lldiffusion. Default: the model's own.", ge=0, le=10
    )
    brightness: Real | None = _option(
        None, "Brighter (above 0) or darker (below) along the latent of llflow. Default: 0.", ge=-10, le=10
    )
    fidelity: Real | None = _option(
        None, "glare: from the codebook's picture (0) to the camera's detail (1). Default: as learned.", ge=0, le=1
    )
    steps: Whole | None = _option(None, "lldiffusion: sampling steps. Default: 25.", ge=1, le=1000)
    eta: Real | None = _option(None, "lldiffusion: share of fresh noise in each step. Default: 0.", ge=0, le=1)
    t_start: Whole | None = _option(None, "lldiffusion: time step to start from. Default: the last.", ge=1, le=1000)
    tile: Whole | None = _option(
        None, "lldiffusion: side of overlapping tiles, in pixels. Default: the whole frame.", ge=16, le=8192
    )
    device: str = _option(
        "auto",
        "Where to compute.",
        expected="auto, cpu, cuda or cuda:N",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
    )


class OutputConfig(_Section):
    """What is written."""

    codec: Annotated[Literal["auto", "h264", "hevc", "av1", "vp9", "ffv1", "prores"], BeforeValidator(_codec)] = (
        _option("auto", "Video codec. auto: H.264, or what the container needs.")
    )
    quality: Whole | None = _option(
        None,
        "Constant quality on the encoder's scale (CRF: lower is better and larger). Default: a good one per codec.",
        ge=0,
        le=100,
    )
    encoder_preset: str | None = _option(
        None,
        "The encoder's own speed preset, for example x264's superfast or slow.",
        expected="a preset name of the encoder",
        pattern=r"^[A-Za-z0-9_-]{1,32}$",
    )
    hardware: Annotated[str, BeforeValidator(_words)] = _option(
        "off",
        "Hardware encoder: auto takes one that really opens here. Software gives the same file on every machine.",
        expected="auto, off, or one of nvenc, qsv, amf, videotoolbox, vaapi, v4l2m2m",
        pattern=r"^[a-z0-9_]{1,32}$",
    )
    compare: bool = _option(False, "Write before and after in one frame.")
    compare_layout: Literal["side", "split"] = _option(
        "side", "How --compare joins them: both whole and twice as wide, or one half of each."
    )
    segment_frames: Whole = _option(
        250, "Frames per closed segment; a resumed job repeats at most this many.", ge=1, le=100_000
    )


class RunConfig(_Section):
    """How the job is run; nothing here changes what is written."""

    overwrite: bool = _option(
        False, "Replace an existing output, and discard an unfinished job for it.", identity=False
    )
    resume: bool = _option(False, "Continue an unfinished job behind its last closed segment.", identity=False)
    queue_frames: Whole = _option(
        2, "Frames that may wait between two stages; more costs memory.", ge=1, le=256, identity=False
    )
    workers: Whole | None = _option(
        None,
        "Threads that work on one frame. Default: 2, or 1 where there are only two cores.",
        ge=1,
        le=256,
        identity=False,
    )


class LiveConfig(_Section):
    """How cameras are read, how late their pictures may be, and how the service is watched."""

    transport: Literal["tcp", "udp"] = _option("tcp", "What RTSP runs over.", identity=False)
    realtime: bool = _option(False, "Play files at their own pace, as if they were cameras.", identity=False)
    open_timeout: Real = _option(
        5.0, "Seconds that a camera may take to answer and to send its first picture.", ge=0.5, le=120, identity=False
    )
    read_timeout: Real = _option(
        5.0, "Seconds without a packet after which a connection is given up.", ge=0.5, le=120, identity=False
    )
    max_latency: Whole = _option(
        500,
        "Milliseconds from packet to hand-over. Older frames are dropped and counted; the enhancer steps down for it.",
        ge=20,
        le=600_000,
        identity=False,
    )
    batch_wait: Whole = _option(
        4, "Milliseconds to wait for frames of other cameras, to enhance them together.", ge=0, le=1000, identity=False
    )
    gate: Literal["dark", "always"] = _option(
        "dark", "Enhance while it is dark and hand on untouched what is bright, or always enhance.", identity=False
    )
    duration: Seconds = _option(None, "End after this time. Default: run until stopped.", identity=False)
    metrics: Whole | None = _option(
        None, "Port for /metrics (Prometheus) and /healthz. Default: none.", ge=0, le=65535, identity=False
    )
    metrics_host: str = _option(
        "127.0.0.1",
        "Address that the port is bound to.",
        expected="an address of this machine",
        pattern=r"^[A-Za-z0-9.:%_-]{1,253}$",
        identity=False,
    )
    log_format: Literal["text", "json"] = _option("text", "How events are logged on stderr.", identity=False)


class DeliverConfig(_Section):
    """Where live pictures go. ``{camera}`` stands for a camera's name."""

    to: str | None = _option(
        None,
        "Publish here: rtsp://, rtmp://, srt://, or a folder's index.m3u8 for HLS.",
        expected="an address, with {camera} in it where there are several cameras",
        min_length=1,
        identity=False,
    )
    steady: Real | None = _option(
        None,
        "Pictures a second to publish while a camera is away or silent. Default: none.",
        ge=0.1,
        le=240,
        identity=False,
    )
    filler: Literal["last", "notice"] = _option(
        "notice", "What they show: the last good picture, or soon a dark one that says so.", identity=False
    )
    bitrate: Whole | None = _option(
        None, "Kilobits a second to publish with. Default: constant quality.", ge=50, le=200_000, identity=False
    )
    record: str | None = _option(
        None,
        "Record here: a folder, or a file name with a strftime pattern.",
        expected="a folder or a pattern such as night/{camera}-%Y%m%d-%H%M%S.mp4",
        min_length=1,
        identity=False,
    )
    record_seconds: Whole = _option(120, "Length of a recorded file, in seconds.", ge=1, le=86_400, identity=False)
    record_megabytes: Whole | None = _option(
        None, "Begin a new file at this size too. Default: by time alone.", ge=1, le=1_000_000, identity=False
    )


class DetectConfig(_Section):
    """What is looked for in live pictures, and where findings go."""

    model: str | None = _option(
        None,
        "Detect with this: motion, or an ONNX file.",
        option="detect",
        expected="motion or an .onnx file",
        min_length=1,
        identity=False,
    )
    pictures: Annotated[Literal["raw", "enhanced", "both"], BeforeValidator(_words)] = _option(
        "enhanced", "Which pictures the detector sees.", option="detect_on", identity=False
    )
    names: str | None = _option(
        None,
        "File with the names of the classes, one a line. Default: those in the model.",
        option="detect_names",
        expected="a text file",
        min_length=1,
        identity=False,
    )
    threshold: Real | None = _option(
        None,
        "Least score of a detection. Default: the detector's own.",
        option="detect_threshold",
        ge=0,
        le=1,
        identity=False,
    )
    rate: Real = _option(
        10.0,
        "Pictures a second of each camera that the detector sees at most.",
        option="detect_rate",
        ge=0.01,
        le=1000,
        identity=False,
    )
    draw: bool = _option(False, "Draw what was detected on the picture.", option="draw_boxes", identity=False)
    events: Annotated[tuple[str, ...], BeforeValidator(_several)] = _option(
        (),
        "Send detections here: a .jsonl file, mqtt://, http:// or https://; several with commas between.",
        expected="addresses or .jsonl files",
        identity=False,
    )


class Config(_Section):
    """Everything that can be set; the first four sections are for files, the rest for cameras."""

    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    output: OutputConfig = OutputConfig()
    run: RunConfig = RunConfig()
    live: LiveConfig = LiveConfig()
    deliver: DeliverConfig = DeliverConfig()
    detect: DetectConfig = DetectConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        start, end = self.input.start, self.input.end
        if end is not None and end <= (start or 0):
            raise ValueError(f"input.end ({_seconds(end)}) must be later than input.start ({_seconds(start or 0)})")
        return self

    def identity(self) -> dict[str, Any]:
        """The values that decide what is written, as ``{"section.field": plain value}``."""
        values = self.model_dump(mode="json")
        return {o.key: values[o.section][o.field] for o in options() if o.identity}


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be set, as other parts of the product need to know it.

    Attributes:
        section: Section of the schema.
        field: Field in the section.
        name: Name as a keyword argument and, with ``-`` for ``_``, on the command line.
        default: Default value.
        help: Text for people.
        expected: What is allowed, in words.
        choices: The allowed words, if it is one of a few.
        is_flag: Whether it is a yes-or-no option.
        identity: Whether it decides what is written.
    """

    section: str
    field: str
    name: str
    default: Any
    help: str
    expected: str
    choices: tuple[str, ...]
    is_flag: bool
    identity: bool

    @property
    def key(self) -> str:
        """``section.field``, the place in a YAML file."""
        return f"{self.section}.{self.field}"

    @property
    def flag(self) -> str:
        """The command-line option, for example ``--encoder-preset``."""
        return "--" + self.name.replace("_", "-")


def options() -> list[Option]:
    """Every option of the schema, in order."""
    found = []
    for section, section_field in Config.model_fields.items():
        section_type = section_field.annotation
        assert section_type is not None
        fields: dict[str, FieldInfo] = section_type.model_fields
        found += [_describe(section, name, info) for name, info in fields.items()]
    return found


JOB_SECTIONS = ("input", "model", "output", "run")
"""Sections that say something about files, and are options of ``streamlight enhance``."""

LIVE_OPTIONS = (
    "input.decoder_threads",
    "model",
    "output.quality",
    "output.encoder_preset",
    "output.hardware",
    "run.workers",
    "live",
    "deliver",
    "detect",
)
"""Sections and single fields that are options of ``streamlight live``."""


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("streamlight.configs")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(
    *,
    base: Config | None = None,
    preset: str | None = None,
    file: str | Path | None = None,
    sections: dict[str, Any] | None = None,
    origin: str = "",
    values: Mapping[str, Any] | None = None,
) -> Config:
    """Build the configuration from its layers: base < preset < file < explicit values.

    Args:
        base: Configuration to start from; the defaults if None.
        preset: Name of a preset that comes with the package.
        file: YAML file with the sections of :class:`Config`; every key is optional.
        sections: The same already read, in place of a file.
        origin: Where they were read, for messages.
        values: Options by their name (:attr:`Option.name`), for example ``{"model": "retinex", "strength": 0.5}``.

    Raises:
        ConfigError: If a preset, file or key is unknown, or a value is not allowed. The message names all of them.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if base is not None:
        layers.append(("configuration", base.model_dump()))
    if preset is not None:
        layers.append((f"preset {preset}", _read_preset(preset)))
    if file is not None:
        layers.append((str(file), read_sections(file)))
    if sections is not None:
        layers.append((origin, sections))
    layers.append(("", _by_section(values or {})))
    merged: dict[str, Any] = {}
    for origin, layer in layers:
        _check_keys(origin, layer)
        for section, content in layer.items():
            merged.setdefault(section, {}).update(content)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, layers)) from error


def render_defaults() -> str:
    """The defaults as a commented YAML file: what ``configs/default.yaml`` holds."""
    lines = ["# Every setting with its default. Copy what you need into a file of your own: --config FILE.", ""]
    for section, section_field in Config.model_fields.items():
        lines += [f"# {(section_field.annotation.__doc__ or '').splitlines()[0]}", f"{section}:"]
        for option in (o for o in options() if o.section == section):
            plain = list(option.default) if isinstance(option.default, tuple) else option.default
            value = yaml.safe_dump(plain, default_flow_style=True).splitlines()[0]
            lines += [f"  # {option.help} ({option.expected})", f"  {option.field}: {value}"]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def suggestion(word: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _describe(section: str, name: str, info: FieldInfo) -> Option:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return Option(
        section=section,
        field=name,
        name=str(extra.get("option") or name),
        default=info.default,
        help=info.description or "",
        expected=str(extra.get("expected") or _expected(info, choices)),
        choices=tuple(map(str, choices)),
        is_flag=info.annotation is bool,
        identity=bool(extra.get("identity", True)),
    )


def _expected(info: FieldInfo, choices: tuple[Any, ...]) -> str:
    """What is allowed, in words, from the type and the limits."""
    if choices:
        return "one of " + ", ".join(choices)
    if info.annotation is bool:
        return "yes or no"
    kind = str(info.annotation)  # an optional number keeps its type inside Annotated
    if "Fraction" in kind:
        return "seconds or [hh:]mm:ss[.fraction]"
    limits: dict[str, Any] = {}
    for rule in info.metadata:
        limits.update({k: getattr(rule, k) for k in ("ge", "le") if getattr(rule, k, None) is not None})
    return f"a {'whole ' if 'int' in kind else ''}number from {limits['ge']} to {limits['le']}"


def _read_preset(name: str) -> dict[str, Any]:
    known = preset_names()
    if name not in known:
        raise ConfigError(f"unknown preset '{name}'{suggestion(name, known)} (presets: {', '.join(known)})")
    return _parse(f"preset {name}", resources.files("streamlight.configs").joinpath(f"{name}.yaml").read_text("utf-8"))


def read_sections(path: str | Path) -> dict[str, Any]:
    """The content of a configuration file as ``{section: {key: value}}``, not judged yet.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or holds no sections.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from error
    return _parse(str(path), text)


def _parse(origin: str, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin} is not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{origin} must hold sections ({', '.join(Config.model_fields)}), not a bare value or list")
    # An empty section ("model:" with nothing below) is a section without keys.
    return {str(key): {} if value is None and key in Config.model_fields else value for key, value in content.items()}


def _by_section(values: Mapping[str, Any]) -> dict[str, Any]:
    known = {option.name: option for option in options()}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown option '{name}'{suggestion(name, list(known))}")
        nested.setdefault(known[name].section, {})[known[name].field] = value
    return nested


def _check_keys(origin: str, layer: dict[str, Any]) -> None:
    """Unknown keys, with the nearest known one; checked per layer so that the message can name the file."""
    fields = {o.key for o in options()}
    places = {o.field: o.key for o in options()}
    where = f"{origin}: " if origin else ""
    for section, content in layer.items():
        if section == "cameras":
            raise ConfigError(f"{where}'cameras' is for 'streamlight live'")
        if section not in Config.model_fields:
            hint = f"; did you mean '{places[section]}'?" if section in places else ""
            hint = hint or suggestion(section, list(Config.model_fields)) or suggestion(section, list(places))
            raise ConfigError(f"{where}unknown key '{section}'{hint}")
        if not isinstance(content, dict):
            raise ConfigError(f"{where}'{section}' is a section and must hold keys, not {content!r}")
        for key in content:
            full = f"{section}.{key}"
            if full not in fields:
                near = suggestion(str(key), [f.split(".")[1] for f in fields if f.startswith(section + ".")])
                hint = f"; did you mean '{places[key]}'?" if key in places else near
                raise ConfigError(f"{where}unknown key '{full}'{hint}")


def _explain(error: ValidationError, layers: list[tuple[str, dict[str, Any]]]) -> str:
    """One sentence per wrong value: where it was set, the value, and what is allowed."""
    by_key = {option.key: option for option in options()}
    sentences = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"][:2])
        option = by_key.get(key)
        if option is None:
            sentences.append(str(problem["msg"]).removeprefix("Value error, "))
            continue
        value, origin = _find(option, layers)
        name = f"{origin}: {key}" if origin else f"{key} ({option.flag})"
        hint = suggestion(str(value), list(option.choices))
        sentences.append(f"{name}: {_shown(value)} is not allowed, expected {option.expected}{hint}")
    return "; ".join(dict.fromkeys(sentences))


def _find(option: Option, layers: list[tuple[str, dict[str, Any]]]) -> tuple[Any, str]:
    for origin, layer in reversed(layers):
        if option.field in layer.get(option.section, {}):
            return layer[option.section][option.field], origin
    return option.default, "default"


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _seconds(value: Fraction | int) -> str:
    return f"{float(value):g} s"
