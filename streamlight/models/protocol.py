"""What every model offers to the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is, what it may be used for, and what its caller must respect.

    Attributes:
        name: Short name, as in ``--model``.
        summary: One line for ``streamlight models``.
        revision: Changes whenever the same input would give another output; a resumed job compares it.
        color: What ``low`` holds: ``"rgb"`` in [0, 1], or ``"ycbcr"`` with luma in [0, 1] and chroma in [-0.5, 0.5].
        latent: Shape rule of the latent, in words.
        global_latent: Whether the latent is one decision on the frame as a whole, ``(N, K)``, without positions.
        size_multiple: Height and width of ``low`` must be multiples of this.
        needs_global_context: Whether the output at a pixel depends on the whole frame (then it must not be tiled).
        stochastic: Whether the prior has a spread to sample from.
        denoises: Whether it removes the noise that it is told of, so that nobody need do it again.
        batches: Whether pictures of several streams may share a call, each with its own memory (:class:`Recall`).
        parameters: Number of trained parameters.
        dtypes: Floating point types whose output was verified against float32.
        licence: Licence of the weights (of the code, where there are none).
        training_data: What the weights were trained on.
    """

    name: str
    summary: str
    revision: str
    color: Literal["rgb", "ycbcr"] = "rgb"
    latent: str = ""
    global_latent: bool = False
    size_multiple: int = 1
    needs_global_context: bool = True
    stochastic: bool = False
    denoises: bool = False
    batches: bool = False
    parameters: int = 0
    dtypes: tuple[str, ...] = ("float32",)
    licence: str = "Apache-2.0"
    training_data: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """The card as plain types, for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Recall:
    """What a stream remembers for the model that works on it, and what the model wants remembered.

    A model made for single pictures makes choices that flip from frame to frame: which code is nearest, where a
    sampler starts. Here it finds those of the frame before and may hold on to them.

    Attributes:
        past: What ``decode`` left at the frame before, carried along the motion to this frame: floats interpolated,
            whole numbers taken from the nearest place. Empty at the start of a scene.
        confidence: How far that can be trusted, place by place, ``(1, 1, h, w)`` in [0, 1]; None with an empty past.
        hold: How far the user wants it to be held on to, above 0 and up to 1.
        left: What this frame leaves for the next: named tensors ``(1, C, h, w)``, or ``(1, h, w)`` of whole numbers.
    """

    past: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: Tensor | None = None
    hold: float = 0.5
    left: dict[str, Tensor] = field(default_factory=dict)

    def trust(self, height: int, width: int) -> Tensor:
        """:attr:`hold` times :attr:`confidence` on a map of this size, ``(1, 1, height, width)``."""
        if self.confidence is None:
            raise ValueError("nothing is remembered, so there is nothing to trust")
        return self.hold * F.interpolate(self.confidence, (height, width), mode="bilinear", align_corners=False)


@dataclass(slots=True)
class Condition:
    """Everything a model derives from the dark picture alone.

    Attributes:
        low: The dark picture, ``(N, 3, H, W)`` float, as :attr:`ModelCard.color` says.
        features: Named tensors, private to the model.
        recall: What the stream remembers; None for a picture by itself.
    """

    low: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    recall: Recall | None = None


@dataclass(slots=True)
class Prior:
    """Distribution of the latent given the dark picture.

    Attributes:
        mean: ``(N, …)`` float.
        std: Standard deviation, a number or broadcastable to ``mean``; 0 for a deterministic model.
    """

    mean: Tensor
    std: Tensor | float = 0.0


@runtime_checkable
class GenerativeModel(Protocol):
    """A model seen as condition → prior → decode, the shape that temporal smoothing relies on.

    Attributes:
        card: What the model is.
        temperature: Spread of the latent when the caller says nothing, in standard deviations of the prior; 0 decodes
            the mean.
    """

    card: ModelCard
    temperature: float

    def condition(self, low: Tensor, *, noise: Tensor | None = None, recall: Recall | None = None) -> Condition:
        """Compute what depends on ``low`` only.

        Args:
            low: Dark picture, ``(N, 3, H, W)`` float, as :attr:`ModelCard.color` says.
            noise: Standard deviation of the luma noise in ``low``, ``(N,)``, in units of ``low``.
            recall: What the stream remembers, for ``low`` of one frame (N = 1); None for pictures by themselves. It
                goes on in the condition, where ``decode`` finds it.
        """
        ...

    def prior(self, condition: Condition) -> Prior:
        """Distribution of the latent."""
        ...

    def decode(self, latent: Tensor, condition: Condition, *, strength: float = 1.0) -> Tensor:
        """The bright picture, ``(N, 3, H, W)``, in the colour space of ``low``; strength 0 returns ``low``."""
        ...
