"""Running a model over frames in memory: with the memory of a stream, or every frame by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from streamlight.config import load_config
from streamlight.enhance import Enhancer, build_enhancer
from streamlight.evaluation.contenders import Contender
from streamlight.evaluation.temporal_clips import PairedClip
from streamlight.media import Frame
from streamlight.models.record import file_digest
from streamlight.models.registry import keywords
from streamlight.models.weights import read_weights
from streamlight.pipelines.building import enhancer_for
from streamlight.temporal import StreamState


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is measured.

    Attributes:
        contender: What it is and how it is set.
        pictures: Whether it works on whole RGB pictures, as the generative models do.
        samples: Whether it starts from noise.
        steps: Whether it takes sampling steps.
        temperature: Its own.
    """

    contender: Contender
    pictures: bool
    samples: bool
    steps: bool
    temperature: float

    @classmethod
    def of(cls, contender: Contender) -> Subject:
        """Look at a model.

        Raises:
            ConfigError: The model does not take its settings.
            ModelError: It cannot be loaded.
        """
        with closing(contender.open()) as enhancer:
            card, temperature = enhancer.model.card, enhancer.model.temperature
            return cls(contender, card.color == "rgb", card.stochastic, "steps" in keywords(card.name), temperature)

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.contender.label

    @property
    def mode(self) -> Literal["direct", "guided"]:
        """The mode that it is measured in unless said otherwise: direct, if it can."""
        return "direct" if self.pictures else "guided"

    def open(self, **values: Any) -> Enhancer:
        """The enhancer, with options by name that win over the contender's own; whoever opens it closes it."""
        given = {"mode": self.mode, "device": "cpu", **values}
        return enhancer_for(load_config(base=self.contender.config, values=given))

    def describe(self) -> dict[str, Any]:
        """For reports: the card, and recipe, steps and digest of the weights; no folder."""
        with closing(self.open()) as enhancer:
            card = enhancer.model.card.to_dict()
        file = self.contender.weights
        told: dict[str, Any] = {"card": card, "recipe": None, "steps": None, "sha256": None}
        if file is not None and Path(file).is_file():
            metadata = read_weights(file).metadata
            told |= {"recipe": metadata.get("training_recipe"), "steps": metadata.get("training_steps")}
            told["sha256"] = file_digest(file)
        return told


@dataclass(slots=True)
class Enhanced:
    """What came out.

    Attributes:
        frames: Enhanced.
        seconds: Of the processor that each took, over all threads.
        state: Of the stream after the last.
    """

    state: StreamState
    frames: list[Frame] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def enhance_frames(
    enhancer: Enhancer, frames: Sequence[Frame], *, mode: Literal["direct", "guided"], anew: bool = False
) -> Enhanced:
    """Enhance frames of one stream; they themselves stay as they are.

    Args:
        enhancer: Closed by the caller.
        frames: In order.
        mode: The enhancer's.
        anew: Every frame as if it were the only one: nothing is remembered, and noise is drawn again.
    """
    out = Enhanced(enhancer.new_state())
    for index, frame in enumerate(frames):
        worker = enhancer
        if anew:
            out.state = enhancer.new_state()
            worker = _reseeded(enhancer, mode, index)
        copy = replace(frame)
        begin = time.process_time()
        worker([copy], [out.state])
        out.seconds.append(time.process_time() - begin)
        out.frames.append(copy)
        if worker is not enhancer:
            worker.close()
    return out


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is run.

    Attributes:
        stability: The option; None for :attr:`anew`.
        temperature: The option; None for a model that does not sample.
    """

    stability: float | None
    temperature: float | None

    @property
    def anew(self) -> bool:
        """Frame by frame: nothing is remembered, noise is drawn for every frame."""
        return self.stability is None

    def values(self) -> dict[str, Any]:
        """As options."""
        values = {"stability": self.stability or 0.0, "temperature": self.temperature}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured of one model on one clip in one way; None where it cannot be said.

    Attributes:
        model: Label.
        clip: Name.
        stability: The option; None for frame by frame.
        temperature: The option; None for a model that does not sample.
        seconds: Of the processor a frame, median.
        level: Mean luma above black, codes of 8 bit.
        warp_error: E_warp in steady light.
        clean_warp_error: That of the clean frames.
        flicker: Of mean luma in steady light, codes of 8 bit.
        clean_flicker: That of the clean frames brought to the brightness of the result.
        noise: Temporal, in the still part, codes of 8 bit.
        psnr: Luma, dB.
        psnr_moving: Of moving pixels.
        ssim: Luma.
        levels: Mean luma of each frame.
        clean_levels: Of the clean ones.
    """

    model: str
    clip: str
    stability: float | None
    temperature: float | None
    seconds: float
    level: float
    warp_error: float | None
    clean_warp_error: float | None
    flicker: float | None
    clean_flicker: float | None
    noise: float | None
    psnr: float | None
    psnr_moving: float | None
    ssim: float | None
    levels: list[float]
    clean_levels: list[float]


def take(subject: Subject, way: Way, clip: PairedClip, enhancer: Enhancer) -> Taken:
    """Run and judge."""
    made = enhance_frames(enhancer, clip.dark, mode=subject.mode, anew=way.anew)
    report = clip.judge(made.frames)
    own, clean = report.figures["enhanced"], report.figures["reference"]
    ratio = own.flicker_ratio
    return Taken(
        model=subject.label,
        clip=clip.name,
        stability=way.stability,
        temperature=way.temperature,
        seconds=sorted(made.seconds)[len(made.seconds) // 2],
        level=own.level,
        warp_error=own.warp_error_steady,
        clean_warp_error=clean.warp_error_steady,
        flicker=own.flicker_steady,
        clean_flicker=own.flicker_steady / ratio if own.flicker_steady and ratio else None,
        noise=own.noise,
        psnr=own.psnr,
        psnr_moving=own.psnr_moving,
        ssim=own.ssim,
        levels=[round(level, 4) for level in report.series["enhanced"].levels],
        clean_levels=[round(level, 4) for level in report.series["reference"].levels],
    )


def _reseeded(enhancer: Enhancer, mode: Literal["direct", "guided"], seed: int) -> Enhancer:
    if not enhancer.model.card.stochastic or not enhancer.model.temperature:
        return enhancer
    return build_enhancer(enhancer.model, mode=mode, settings=replace(enhancer.settings, seed=seed))
