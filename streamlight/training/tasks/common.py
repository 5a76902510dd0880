"""What the tasks share: their common options, random crops, starting weights, and the frame of a weights file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from streamlight.errors import ConfigError, ModelError
from streamlight.models import registry
from streamlight.models.weights import Weights, compare, read_weights

Config = TypeVar("Config")


class TaskOptions(BaseModel):
    """Options of every task.

    Attributes:
        licence: Licence of the exported weights, for their card.
        training_data: What they were trained on, for their card.
        half: Whether the wide layers are stored in float16; what decides on more than its own rounding stays float32.
        keywords: Settings of the model that the file carries as its defaults, as :func:`streamlight.load` takes them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    licence: str = ""
    training_data: str = ""
    half: bool = False
    keywords: dict[str, Any] = Field(default_factory=dict)


def random_crops(
    pictures: Mapping[str, Tensor],
    names: Iterable[str],
    *,
    size: tuple[int, int] | None,
    count: int = 1,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Cut patches, at the same places of every kind of picture.

    Args:
        pictures: A batch, ``(N, 3, H, W)`` each.
        names: Which of them are wanted.
        size: Height and width of a patch; None returns the pictures whole.
        count: Patches per picture.
        generator: Source of the places.

    Returns:
        Name → ``(N·count, 3, h, w)``, the patches of one picture in a row.

    Raises:
        ConfigError: A patch is larger than the pictures.
    """
    chosen = {name: pictures[name] for name in names}
    if size is None:
        return chosen
    number, _, height, width = next(iter(chosen.values())).shape
    if size[0] > height or size[1] > width:
        raise ConfigError(f"patches of {size[1]}x{size[0]} cannot be cut from pictures of {width}x{height}; lower it")
    tops = torch.randint(0, height - size[0] + 1, (number, count), generator=generator).tolist()
    lefts = torch.randint(0, width - size[1] + 1, (number, count), generator=generator).tolist()
    places = [(n, tops[n][k], lefts[n][k]) for n in range(number) for k in range(count)]
    return {
        name: torch.stack([picture[n, :, y : y + size[0], x : x + size[1]] for n, y, x in places])
        for name, picture in chosen.items()
    }


def starting_weights(start: Path, architecture: str) -> Weights:
    """Tensors of a weights file, under their current names.

    Raises:
        ModelError: The file cannot be read, or is of another architecture.
    """
    known, weights = registry.architecture(architecture), read_weights(start)
    tensors = known.canonical(weights.tensors)
    if not known.detect(tensors):
        raise ModelError(f"{start}: start: holds no {architecture} weights, which this recipe goes on from")
    return Weights(weights.path, tensors, weights.container, metadata=weights.metadata)


def fill(network: nn.Module, weights: Weights, *, unused: Iterable[str] = ()) -> None:
    """Copy the tensors of a file into a network, in its own precision.

    Raises:
        ModelError: A tensor is missing, surplus, of the wrong shape, or holds NaN.
    """
    fit = compare(network, weights.tensors, unused=unused)
    if not fit.complete:
        raise ModelError(f"{weights.path}: start: does not fit the recipe's network: {'; '.join(fit.problems())}")
    network.load_state_dict({name: weights.tensors[name] for name in network.state_dict()})


def agreed(wanted: Config | None, found: Config | None, *, start: Path | None) -> Config:
    """The shape of the network: the recipe's, or that of the starting weights, which must not contradict.

    Raises:
        ConfigError: Neither says anything, or they differ.
    """
    if wanted is None and found is None:
        raise ConfigError("options.network: missing; give the shape of the network, or start from a weights file")
    if wanted is not None and found is not None and wanted != found:
        raise ConfigError(f"options.network: is {wanted}, but {start} holds {found}; leave one of them out")
    return found if found is not None else wanted  # type: ignore[return-value]


def check_deducible(network: nn.Module, config: Any, deduce: Callable[[Mapping[str, Tensor]], Any]) -> None:
    """See that a file of these weights can be opened without a configuration beside it.

    Raises:
        ConfigError: The shape does not survive the way through names and shapes.
    """
    try:
        found = deduce(network.state_dict())
    except ModelError as error:
        raise ConfigError(f"options.network: no weights file of this shape can be opened: {error}") from error
    if found != config:
        raise ConfigError(
            f"options.network: a weights file of this shape would be opened as {found}, not as {config}; "
            "shapes that differ in what tensors do not tell cannot be trained"
        )


_ENTRIES: Final = (("licence", registry.LICENCE_ENTRY), ("training_data", registry.TRAINING_DATA_ENTRY))


def describe(architecture: str, options: TaskOptions, **keywords: Any) -> dict[str, str]:
    """Metadata of a weights file.

    Args:
        architecture: Name of the architecture.
        options: The task's.
        **keywords: What the tensors do not tell of the network; the options' keywords come on top.
    """
    metadata = {
        "streamlight.architecture": architecture,
        registry.KEYWORDS_ENTRY: json.dumps({**keywords, **options.keywords}),
    }
    return metadata | {entry: text for name, entry in _ENTRIES if (text := getattr(options, name))}


def check_keywords(architecture: str, keywords: Mapping[str, Any]) -> None:
    """See that a model of this architecture takes the keywords that its file shall carry.

    Raises:
        ConfigError: It does not.
    """
    known = registry.keywords(architecture)
    if unknown := sorted(set(keywords) - set(known)):
        raise ConfigError(f"options.keywords: {architecture} has no setting {unknown[0]!r}; it offers {known}")


def stored(state: Mapping[str, Tensor], *, half: bool, keep: Callable[[str], bool]) -> dict[str, Tensor]:
    """Tensors as they are written.

    Args:
        state: Name → tensor.
        half: Whether to use float16.
        keep: Names that stay float32 all the same.
    """
    return {
        name: tensor.half() if half and tensor.is_floating_point() and not keep(name) else tensor
        for name, tensor in state.items()
    }
