"""What a training run is made of: one typed file, the recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamlight.config import Real, Whole, suggestion
from streamlight.errors import ConfigError
from streamlight.training.degradation import DegradationRanges

Side = Annotated[Whole, Field(ge=8, le=8192)]
Share = Annotated[Real, Field(ge=0, le=1)]
Precision = Literal["float32", "bfloat16", "float16"]

FREE_ON_RESUME = ("steps", "checkpoint_minutes", "sheet_every", "log_every")
"""Keys that a resumed run may have changed: they decide how long it goes on and what is seen of it, not its steps."""


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors. Tasks derive their options from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class DataRecipe(Section):
    """Pictures to learn from. Folders are searched with their sub-folders and are relative to ``--data``.

    Attributes:
        photos: Folders (or files) of clean photographs, darkened by ``degradation``.
        radiance: Folders (or files) of ``.hdr`` and ``.exr`` radiance maps; those twice as wide as high are panoramas,
            of which perspective views are cut.
        clips: Clean videos, of which a few frames each are used like photographs.
        pairs: Folders with dark and well-lit pictures of the same scenes, or the root of a published set.
        exclude: What of the above is left out: names or patterns (``*`` matches any text), or ``.txt`` files beside the
            recipe with one of them a line.
        size: Height and width of the pairs made.
        coverage: Range of the share of the largest crop's sides that a crop covers.
        aspect: Largest change of a crop's aspect, as a share: 0.15 is 15 % either way.
        flips: Whether pictures are mirrored at random.
        permute_colours: Chance that the colour channels of a picture are interchanged before it is darkened.
        pool: How many pairs are made, once, ahead of the training; 0 makes every sample anew (needs many cores).
        clean: Whether the dark picture without noise, blur and storage goes along; doubles the pool.
        radiance_views: How often a radiance map is used for every time that a photograph is.
        clip_frames: Frames used of every clip.
        crop: Height and width of the random crop of a pair that a step sees; null takes the whole pair.
        degradation: How the light is taken away.
    """

    photos: tuple[str, ...] = ()
    radiance: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    size: tuple[Side, Side] = (384, 512)
    coverage: tuple[Share, Share] = (0.55, 1.0)
    aspect: Annotated[Real, Field(ge=0, le=1)] = 0.15
    flips: bool = True
    permute_colours: Share = 0.3
    pool: Annotated[Whole, Field(ge=0, le=1_000_000)] = 2500
    clean: bool = True
    radiance_views: Annotated[Whole, Field(ge=1, le=1000)] = 4
    clip_frames: Annotated[Whole, Field(ge=1, le=1000)] = 8
    crop: tuple[Side, Side] | None = None
    degradation: DegradationRanges = DegradationRanges()

    @model_validator(mode="after")
    def _check(self) -> DataRecipe:
        if not (self.photos or self.radiance or self.clips or self.pairs):
            raise ValueError("name pictures to learn from: photos, radiance, clips or pairs")
        if not 0.05 <= self.coverage[0] <= self.coverage[1]:
            raise ValueError("coverage must be a range from low to high, at least 0.05")
        if self.clips and not self.pool:
            raise ValueError("clips need a pool (pool above 0)")
        if self.crop is not None and self.synthetic and any(c > s for c, s in zip(self.crop, self.size, strict=True)):
            raise ValueError(f"crop {list(self.crop)} is larger than size {list(self.size)}")
        return self

    @property
    def synthetic(self) -> bool:
        """Whether pictures are darkened here."""
        return bool(self.photos or self.radiance or self.clips)


class OptimizerRecipe(Section):
    """The optimiser.

    Attributes:
        name: Adam, or AdamW with decoupled weight decay.
        rate: Highest learning rate.
        betas: Decay of the moments.
        weight_decay: As the optimiser of that name takes it.
    """

    name: Literal["adam", "adamw"] = "adam"
    rate: Annotated[Real, Field(gt=0, le=10)] = 2e-4
    betas: tuple[Annotated[Real, Field(ge=0, lt=1)], Annotated[Real, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: Annotated[Real, Field(ge=0, le=10)] = 0.0


class ScheduleRecipe(Section):
    """How the learning rate changes; a pure function of the step.

    Attributes:
        name: Constant; a cosine from the highest rate to ``floor`` of it at the last step; or ``factor`` at each
            milestone.
        warmup: Steps of linear rise from zero.
        floor: Share of the rate that the cosine ends at.
        milestones: Steps, or below 1 shares of all steps.
        factor: Of the rate, at each milestone.
    """

    name: Literal["constant", "cosine", "steps"] = "cosine"
    warmup: Annotated[Whole, Field(ge=0)] = 100
    floor: Share = 0.0
    milestones: tuple[Annotated[Real, Field(gt=0)], ...] = ()
    factor: Annotated[Real, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> ScheduleRecipe:
        if bool(self.milestones) != (self.name == "steps"):
            raise ValueError("milestones belong to the schedule 'steps', which needs them")
        return self

    def factor_at(self, step: int, steps: int) -> float:
        """Share of the highest rate in a step, counted from 0, of a run of ``steps``."""
        warm = min(1.0, (step + 1) / (self.warmup + 1))
        if self.name == "cosine":
            done = min(1.0, step / max(1, steps))
            return warm * (self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * done)))
        passed = [mark for mark in self.milestones if step >= (mark * steps if mark < 1 else mark)]
        return warm * self.factor ** len(passed)


class Recipe(Section):
    """Everything that decides what comes out of a run, but for the pictures themselves.

    Attributes:
        task: What is trained; see :mod:`streamlight.training.tasks`.
        options: The task's own section.
        start: Weights file to start from, relative to the recipe, to ``--data`` or to the current folder; what is made
            of it is the task's business.
        data: Pictures.
        seed: Of everything random.
        batch: Pictures in a step.
        steps: Optimiser steps of the whole run.
        optimizer: The optimiser.
        schedule: Its learning rate.
        clip: Largest norm of all gradients together; null does not clip.
        ema: Decay of the average of the weights that is exported; null exports the last weights.
        precision: Of the forward pass (autocast); float16 scales the loss.
        checkpoint_minutes: Between checkpoints.
        sheet_every: Steps between sample sheets; 0 draws none but the last.
        log_every: Steps that a line of the log stands for.
    """

    task: str
    options: Any = Field(default_factory=dict)
    start: str | None = None
    data: DataRecipe
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    batch: Annotated[Whole, Field(ge=1, le=4096)] = 8
    steps: Annotated[Whole, Field(ge=1, le=10**9)]
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    clip: Annotated[Real, Field(gt=0)] | None = 1.0
    ema: Annotated[Real, Field(ge=0, lt=1)] | None = 0.999
    precision: Precision = "float32"
    checkpoint_minutes: Annotated[Real, Field(gt=0)] = 5.0
    sheet_every: Annotated[Whole, Field(ge=0)] = 1000
    log_every: Annotated[Whole, Field(ge=1)] = 50

    def to_plain(self) -> dict[str, Any]:
        """Plain values for YAML and JSON, defaults included."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain


def read_recipe(path: str | Path, **changes: Any) -> Recipe:
    """Read a recipe, resolved: the names in excluded ``.txt`` files are put in, the task's options are checked.

    Args:
        path: YAML file.
        changes: Top-level keys to replace; None changes nothing.

    Raises:
        ConfigError: The file is missing or no YAML, a key is unknown (the nearest is named), a value is not allowed.
    """
    file = Path(path)
    content = _parse(file)
    content.update({key: value for key, value in changes.items() if value is not None})
    recipe = check(Recipe, content, origin=str(file))
    options = check(_options_model(recipe.task, origin=str(file)), recipe.options, origin=str(file), inside="options.")
    data = recipe.data.model_copy(update={"exclude": tuple(_expanded(recipe.data.exclude, file.parent))})
    return recipe.model_copy(update={"options": options, "data": data})


def check(model: type[Any], content: Any, *, origin: str, inside: str = "") -> Any:
    """Validate a section of a recipe.

    Args:
        model: A :class:`Section`.
        content: As read from YAML.
        origin: Name of the file, for messages.
        inside: Where the section stands in the file, ending in a dot.

    Raises:
        ConfigError: An unknown key, with the nearest known one, or a value that is not allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(error, model, inside)}") from error


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a resolved recipe as YAML."""
    from streamlight.media import disk_errors, partial_path
    from streamlight.media.destination import publish

    text = yaml.safe_dump(recipe.to_plain(), sort_keys=False, width=120, allow_unicode=True)
    with disk_errors(path):
        partial_path(path).write_text(text, "utf-8")
    publish(partial_path(path), path, overwrite=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``key: old value in the run, new value in the recipe`` for every key that differs between plain recipes."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return [
        f"{key}: {_shown(old, key)} in the run, {_shown(new, key)} now"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, ...) != new.get(key, ...)
    ]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else "absent"
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"recipe {file} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"recipe {file} is not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {file} must hold keys ({', '.join(Recipe.model_fields)})")
    return {str(key): value for key, value in content.items()}


def _options_model(task: str, *, origin: str) -> type[Any]:
    from streamlight.training.tasks import TASKS, find_task

    if task not in TASKS:
        known = sorted(TASKS)
        raise ConfigError(f"{origin}: unknown task '{task}'{suggestion(task, known)} (tasks: {', '.join(known)})")
    model: type[Any] = find_task(task).Options
    return model


def _expanded(names: tuple[str, ...], folder: Path) -> Iterator[str]:
    for name in names:
        if not name.endswith(".txt"):
            yield name
            continue
        try:
            lines = (folder / name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"data.exclude: the list {folder / name} cannot be read: {error}") from error
        yield from (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _explain(error: ValidationError, model: type[Any], inside: str) -> str:
    """One sentence per problem: where, what, and the nearest known key."""
    sentences = []
    for problem in error.errors():
        place = inside + ".".join(str(part) for part in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument", "unexpected_keyword"):
            known = _known(model, [str(part) for part in problem["loc"][:-1]])
            sentences.append(f"unknown key '{place}'{suggestion(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            sentences.append(f"'{place}' is missing")
        elif isinstance(problem["input"], dict):
            sentences.append(f"{place}: {message}" if place else message)
        else:
            sentences.append(f"{place}: {problem['input']!r} is not allowed ({message[:1].lower()}{message[1:]})")
    return "; ".join(dict.fromkeys(sentences))


def _known(model: type[Any], path: list[str]) -> list[str]:
    """Keys of the section that a path leads to."""
    for part in path:
        info = getattr(model, "model_fields", {}).get(part)
        kinds = [info.annotation, *get_args(info.annotation)] if info is not None else []
        inner = next((kind for kind in kinds if isinstance(kind, type) and _names(kind)), None)
        if inner is None:
            return []
        model = inner
    return _names(model)


def _names(kind: type[Any]) -> list[str]:
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []
