"""Which models there are, and how one is opened by name or from a file.

A weights file needs no configuration beside it: the architecture and its hyper-parameters are read off the names and
shapes of its tensors (as spandrel does).
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamlight.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

    from streamlight.models.architecture import Architecture
    from streamlight.models.protocol import GenerativeModel, ModelCard
    from streamlight.models.weights import Fit, Weights

_BUILT_IN: Final[dict[str, tuple[str, str]]] = {"retinex": ("streamlight.models.retinex", "Retinex")}

_ARCHITECTURES: Final[dict[str, str]] = {
    "glare": "streamlight.models.glare",
    "lldiffusion": "streamlight.models.lldiffusion",
    "llflow": "streamlight.models.llflow",
    "tonenet": "streamlight.models.tonenet",
}
"""Name → module that offers ``ARCHITECTURE``. All of them are asked about a file, in this order."""

KEYWORDS_ENTRY: Final = "streamlight.keywords"
"""Metadata of our own files: what cannot be deduced from the tensors, as JSON keyword arguments."""

LICENCE_ENTRY: Final = "streamlight.licence"
TRAINING_DATA_ENTRY: Final = "streamlight.training_data"
"""Metadata of our own files: what the model's card says in place of what is known of the architecture's files."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a weights file is.

    Attributes:
        path: The file.
        container: ``"safetensors"`` or ``"torch"``.
        entry: Which entry of the file holds the weights; ``""`` for a bare state dict.
        ema: Averaged weights: ``"absent"``, ``"available"`` or ``"used"``.
        beside: Other entries of the file, by name.
        architecture: Name of the architecture.
        configuration: Deduced hyper-parameters.
        published: Published configurations with these hyper-parameters.
        tensors: Number of tensors.
        parameters: Number of values in them.
        live: Number of values that the network uses.
        dtypes: Number of tensors per stored type.
        fit: What is missing, surplus, unused, misshapen or not finite.
        licence: What is known about the licence of such files.
    """

    path: str
    container: str
    entry: str
    ema: str
    beside: tuple[str, ...]
    architecture: str
    configuration: dict[str, Any]
    published: tuple[str, ...]
    tensors: int
    parameters: int
    live: int
    dtypes: dict[str, int]
    fit: Fit
    licence: str

    @property
    def usable(self) -> bool:
        """Whether :func:`load` would open the file."""
        return self.fit.complete

    def to_dict(self) -> dict[str, Any]:
        """The description as plain types, for JSON."""
        return {**asdict(self), "usable": self.usable}

    def lines(self) -> list[str]:
        """The description in words, a line a fact."""
        shape = ", ".join(f"{key} {value}" for key, value in self.configuration.items())
        known = f"the shape of the published {' or '.join(self.published)}" if self.published else "a shape of its own"
        averaged = {"used": "averaged weights", "available": "plain weights (averaged ones with --ema)"}
        facts = [
            f"{self.path}: {self.architecture}, {known}",
            f"  {self.parameters:,} parameters in {self.tensors} tensors, {self.live:,} in use"
            f" ({', '.join(f'{count} {dtype}' for dtype, count in self.dtypes.items())})",
            f"  stored as {self.container}" + (f", entry {self.entry!r}" if self.entry else ""),
            f"  shape: {shape}",
            f"  licence: {self.licence}",
        ]
        if self.ema in averaged:
            facts.append(f"  {averaged[self.ema]}")
        if self.beside:
            facts.append(f"  also in the file: {', '.join(self.beside)}")
        facts += [f"  {problem}" for problem in self.fit.problems()]
        return [*facts, "  usable" if self.usable else "  NOT usable"]


def names() -> list[str]:
    """Names that :func:`load` accepts without a file."""
    return sorted([*_BUILT_IN, *(name for name in _ARCHITECTURES if packaged_weights(name) is not None)])


def packaged_weights(name: str) -> Path | None:
    """The weights file of an architecture that comes with the package, if there is one."""
    path = Path(__file__).resolve().parent.parent / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


def architectures() -> list[str]:
    """Names of the architectures that are opened from a weights file."""
    return list(_ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """The entry of one of :func:`architectures`.

    Raises:
        ModelError: There is none of this name.
    """
    if name not in _ARCHITECTURES:
        raise ModelError(f"unknown architecture {name!r}; available: {', '.join(_ARCHITECTURES)}")
    return _architecture(name)


def cards() -> list[ModelCard]:
    """Cards of all models: those in the package, then those that need a weights file."""
    packaged = names()
    return [
        *(load(name).card for name in packaged),
        *(_architecture(name).card for name in _ARCHITECTURES if name not in packaged),
    ]


def keywords(name: str) -> list[str]:
    """What :func:`load` takes as keywords for a model called ``name``.

    Raises:
        ModelError: There is none of this name.
    """
    return _keywords(_class(name) if name in _BUILT_IN else architecture(name).build)


def load(
    name_or_path: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    ema: bool = False,
    **keywords: Any,
) -> GenerativeModel:
    """Open a model.

    Args:
        name_or_path: One of :func:`names`, the path of a weights file, or one of :func:`architectures` together with
            ``weights``.
        weights: A weights file; must be of the architecture named. The package's own, where it has one, if None.
        device: Where it runs.
        ema: Take the averaged weights of a training checkpoint instead of the plain ones.
        **keywords: What this kind of model offers, for example ``temperature``.

    Raises:
        ModelError: The name is unknown, the file is damaged or not one of a known architecture, or a tensor does not
            fit.
        ConfigError: The model has no such keyword, needs a weights file, or takes none.
    """
    name = str(name_or_path)
    if name in _BUILT_IN:
        if weights is not None:
            raise ConfigError(f"model {name!r} takes no weights file, got {weights}")
        model = _class(name)
        _check_keywords(name, model, keywords)
        return model(**keywords)
    if name in _ARCHITECTURES:
        source = weights if weights is not None else packaged_weights(name)
        if source is None:
            raise ConfigError(f"model {name!r} needs a weights file: give weights=… (--weights FILE)")
        return _open(source, name, device=device, ema=ema, keywords=keywords)
    if Path(name).suffix or Path(name).exists():
        if weights is not None:
            raise ConfigError(f"two weights files given, {name} and {weights}; give one")
        return _open(name, None, device=device, ema=ema, keywords=keywords)
    near = difflib.get_close_matches(name, _listed(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelError(f"unknown model {name!r}; {hint}available: {', '.join(_listed())}, or a weights file")


def check(path: str | Path, *, ema: bool = False) -> Description:
    """Say what a weights file is, without building the model.

    Args:
        path: The file.
        ema: As for :func:`load`.

    Raises:
        ModelError: The file cannot be read, or no architecture recognises it.
    """
    from streamlight.models.weights import compare

    weights, architecture = _recognise(path, ema=ema)
    tensors = weights.tensors
    fit = compare(_about(path, lambda: _skeleton(architecture, weights)), tensors, unused=architecture.unused)
    dtypes: dict[str, int] = {}
    for tensor in tensors.values():
        dtype = str(tensor.dtype).removeprefix("torch.")
        dtypes[dtype] = dtypes.get(dtype, 0) + 1
    dropped = {*fit.unused, *fit.surplus}
    return Description(
        path=weights.path,
        container=weights.container,
        entry=weights.entry,
        ema=weights.ema,
        beside=weights.beside,
        architecture=architecture.name,
        configuration=architecture.describe(tensors),
        published=tuple(architecture.matching(tensors)),
        tensors=len(tensors),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        live=sum(tensor.numel() for name, tensor in tensors.items() if name not in dropped),
        dtypes=dtypes,
        fit=fit,
        licence=weights.metadata.get(LICENCE_ENTRY, architecture.card.licence),
    )


def convert(source: str | Path, target: str | Path, *, overwrite: bool = False, ema: bool = False) -> Description:
    """Rewrite a weights file as safetensors: the same names (without wrappers), the same bits, no optimizer state.

    Args:
        source: Any file that :func:`load` opens.
        target: A path that ends in ``.safetensors``.
        overwrite: Replace an existing ``target``.
        ema: Take the averaged weights.

    Returns:
        What ``source`` is.

    Raises:
        ModelError: ``source`` is not usable, or ``target`` exists or is not a ``.safetensors`` path.
    """
    from streamlight.models.weights import write_safetensors

    target = Path(target)
    if target.suffix != ".safetensors":
        raise ModelError(f"{target}: the converted file must end in .safetensors")
    if target.exists() and (not overwrite or target.samefile(source)):
        raise ModelError(f"{target}: exists already; choose another name or allow overwriting")
    description = check(source, ema=ema)
    if not description.usable:
        raise ModelError(f"{source}: is not converted, it is not usable: {'; '.join(description.fit.problems())}")
    weights, architecture = _recognise(source, ema=ema)
    metadata = {
        LICENCE_ENTRY: architecture.card.licence,
        **weights.metadata,
        "streamlight.architecture": architecture.name,
        "streamlight.converted_from": Path(source).name,
    }
    write_safetensors(target, weights.tensors, metadata=metadata)
    return description


def _open(
    path: str | Path, expected: str | None, *, device: str | torch.device, ema: bool, keywords: dict[str, Any]
) -> GenerativeModel:
    weights, architecture = _recognise(path, ema=ema)
    if expected is not None and architecture.name != expected:
        raise ModelError(f"{path}: is a {architecture.name!r} file, not {expected!r}")
    keywords = {**stored_keywords(weights), **keywords}
    _check_keywords(architecture.name, architecture.build, keywords)
    model = _about(path, lambda: architecture.build(weights, **keywords))
    model.card = replace(
        model.card,
        licence=weights.metadata.get(LICENCE_ENTRY, model.card.licence),
        training_data=weights.metadata.get(TRAINING_DATA_ENTRY, model.card.training_data),
    )
    if str(device).startswith("cuda"):
        from streamlight.models.precision import exact_float32

        exact_float32()
    move = getattr(model, "to", None)
    return model if move is None else move(device)


def _recognise(path: str | Path, *, ema: bool) -> tuple[Weights, Architecture]:
    from streamlight.models.weights import listing, read_weights

    weights = read_weights(path, ema=ema)
    for name in _ARCHITECTURES:
        architecture = _architecture(name)
        tensors = architecture.canonical(weights.tensors)
        if architecture.detect(tensors):
            return replace(weights, tensors=tensors), architecture
    known = ", ".join(_ARCHITECTURES) or "none"
    raise ModelError(
        f"{path}: no known architecture has tensors such as {listing(weights.tensors)}; known architectures: {known}"
    )


def _skeleton(architecture: Architecture, weights: Weights) -> torch.nn.Module:
    import torch

    with torch.device("meta"):
        return architecture.network(architecture.deduce(weights.tensors))


def _about(path: str | Path, action: Callable[[], Any]) -> Any:
    """Do something with a file; an error that does not name it is made to."""
    try:
        return action()
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise ModelError(f"{path}: {error}") from error


def stored_keywords(weights: Weights) -> dict[str, Any]:
    """Keyword arguments that a file carries.

    Raises:
        ModelError: They are not a JSON object.
    """
    text = weights.metadata.get(KEYWORDS_ENTRY, "{}")
    try:
        stored = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"{weights.path}: metadata {KEYWORDS_ENTRY!r} is not JSON: {text[:80]!r}") from error
    if not isinstance(stored, dict):
        raise ModelError(f"{weights.path}: metadata {KEYWORDS_ENTRY!r} must be an object, got {text[:80]!r}")
    return stored


def _keywords(build: Callable[..., Any]) -> list[str]:
    return [key for key, item in inspect.signature(build).parameters.items() if item.kind is item.KEYWORD_ONLY]


def _check_keywords(name: str, build: Callable[..., Any], keywords: dict[str, Any]) -> None:
    known = _keywords(build)
    for key in keywords:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"model {name!r} has no setting {key!r}; {hint}it offers: {', '.join(known) or 'none'}")


def _architecture(name: str) -> Architecture:
    return import_module(_ARCHITECTURES[name]).ARCHITECTURE


def _class(name: str) -> Callable[..., GenerativeModel]:
    module, attribute = _BUILT_IN[name]
    return getattr(import_module(module), attribute)


def _listed() -> list[str]:
    return [*_BUILT_IN, *_ARCHITECTURES]
