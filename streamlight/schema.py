"""Everything that can be set: the sections of the configuration, with defaults, limits and help.

An option exists here and nowhere else; :mod:`streamlight.config` reads it from files, presets and the command line.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

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
    hardware_decode: Annotated[Literal["off", "auto", "nvdec"], BeforeValidator(_words)] = _option(
        "off",
        "Decode on an NVIDIA GPU: where it gives the pictures of the software decoder (auto), or else fail (nvdec).",
        identity=False,
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
        "llflow, glare, lldiffusion: how far frames are averaged along the motion and choices held; 0: frame by frame.",
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
        "Where to compute. Several cards share files or cameras among them.",
        expected="auto, cpu, cuda or cuda:N, or several cards with commas between",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?|cuda:\d{1,3}(,cuda:\d{1,3})+)$",
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """Each device by itself, none twice."""
        return tuple(dict.fromkeys(self.device.split(",")))

    def on(self, device: str) -> ModelConfig:
        """The same on one device."""
        return self.model_copy(update={"device": device})


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
        4,
        "Milliseconds to wait for frames of other cameras, where a model takes several at once.",
        ge=0,
        le=1000,
        identity=False,
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
        "Publish here: rtsp://, rtmp://, srt:// (where FFmpeg has it), or a folder's index.m3u8 for HLS.",
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
        kept = {}
        for section, values in self.model_dump(mode="json").items():
            for name, info in type(getattr(self, section)).model_fields.items():
                extra = info.json_schema_extra
                if not isinstance(extra, dict) or extra.get("identity", True):
                    kept[f"{section}.{name}"] = values[name]
        return kept


def _seconds(value: Fraction | int) -> str:
    return f"{float(value):g} s"
