"""From files, presets and options to one configuration, and back to words when something is wrong with it.

YAML presets, command-line options, keyword arguments of :func:`streamlight.enhance_video` and the reference page are
all derived from :class:`~streamlight.schema.Config`: an option exists there and nowhere else. Values come from four
layers, the later winning: the defaults, a preset, a configuration file, explicit options.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from streamlight.errors import ConfigError
from streamlight.schema import Config as Config
from streamlight.schema import Real as Real
from streamlight.schema import Whole as Whole


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
