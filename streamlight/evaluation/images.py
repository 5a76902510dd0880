"""Still pictures against their references: what ``streamlight evaluate images`` measures.

Every pair goes the way of ``streamlight enhance PICTURE -o PICTURE.png``: decoded planes, a fresh stream state, the
enhancer. Scored is the 8-bit RGB picture that such a PNG holds, alpha aside. See
:mod:`streamlight.evaluation.metrics` for what the figures are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from streamlight.config import Config
from streamlight.enhance import Enhancer
from streamlight.errors import ConfigError, MediaError
from streamlight.evaluation import metrics
from streamlight.evaluation.contenders import Contender
from streamlight.evaluation.datasets import Pair
from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.media import Frame, open_source
from streamlight.media.stillmeta import is_cut_off
from streamlight.media.stills import to_rgb

DEFINITIONS: Final = {
    "picture": "8-bit RGB as displayed, over 255; alpha is left out",
    "psnr": "dB, mean square error over all pixels and channels",
    "ssim": "Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03, data range 1, windows inside the picture only, mean "
    "over R, G, B",
    "lpips": "AlexNet, version 0.1",
    "gt_mean": "picture times (BT.601 grey mean of the reference / of the picture), clipped to [0, 1], not rounded",
    "mean": "over the pictures, each counting once",
}
"""One line a figure, for reports."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A picture against its reference.

    Attributes:
        psnr: dB; infinite for equal pictures (null in JSON).
        ssim: At most 1.
        lpips: 0 or more, less is better; None where it was not asked for.
    """

    psnr: float
    ssim: float
    lpips: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Plain values that JSON knows."""
        return {"psnr": self.psnr if math.isfinite(self.psnr) else None, "ssim": self.ssim, "lpips": self.lpips}


@dataclass(frozen=True, slots=True)
class Figures:
    """The scores of one picture, as it is and with its brightness corrected.

    Attributes:
        plain: Without GT-mean.
        gt_mean: With GT-mean.
        gain: The factor that GT-mean used: above 1 the picture is too dark.
    """

    plain: Scores
    gt_mean: Scores
    gain: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON knows."""
        return {"plain": self.plain.to_dict(), "gt_mean": self.gt_mean.to_dict(), "gain": self.gain}


@dataclass(frozen=True, slots=True)
class PictureResult:
    """One pair.

    Attributes:
        name: Of the pair.
        width: Pixels.
        height: Pixels.
        seconds: What the enhancer took, reading and scoring aside. The first picture pays for warming up.
        result: Of the enhanced picture.
        untouched: Of the dark picture itself.
    """

    name: str
    width: int
    height: int
    seconds: float
    result: Figures
    untouched: Figures


@dataclass(frozen=True, slots=True)
class ImagesReport:
    """What was measured, with what, on what, by which command.

    Attributes:
        command: How it was called.
        machine: Where.
        dataset: Name of the set.
        model: Card, settings and weights file of the enhancer.
        pictures: One per pair, in order.
    """

    command: str
    machine: Machine
    dataset: str
    model: dict[str, Any]
    pictures: list[PictureResult]

    @property
    def result(self) -> Figures:
        """Means over the enhanced pictures."""
        return _mean([picture.result for picture in self.pictures])

    @property
    def untouched(self) -> Figures:
        """Means over the dark pictures as they are."""
        return _mean([picture.untouched for picture in self.pictures])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "command": self.command,
            "machine": self.machine.to_dict(),
            "dataset": {"name": self.dataset, "pairs": len(self.pictures)},
            "model": self.model,
            "definitions": DEFINITIONS,
            "mean": {"result": self.result.to_dict(), "input": self.untouched.to_dict()},
            "pictures": [
                {
                    "name": picture.name,
                    "width": picture.width,
                    "height": picture.height,
                    "seconds": picture.seconds,
                    "result": picture.result.to_dict(),
                    "input": picture.untouched.to_dict(),
                }
                for picture in self.pictures
            ],
        }

    def summary(self) -> str:
        """The means as a Markdown table."""
        rows = [("input", self.untouched), (str(self.model["card"]["name"]), self.result)]
        return self._table(f"{self.dataset}, mean of {len(self.pictures)}", rows)

    def markdown(self) -> str:
        """The report as a Markdown page: command, machine, means, definitions, every picture."""
        settings = ", ".join(f"{key} {value}" for key, value in self.model["settings"].items())
        weights = self.model["weights"]
        parts = [
            f"# {self.model['card']['name']} on {self.dataset}",
            f"    {self.command}" if self.command else "",
            "\n".join(f"{line}  " for line in self.machine.lines()).rstrip(),
            f"Settings: {settings}."
            + (f" Weights: {weights['file']}, SHA-256 {weights['sha256']}." if weights else ""),
            self.summary(),
            "\n".join(f"* {name}: {text}" for name, text in DEFINITIONS.items()),
            self._table("picture", [(picture.name, picture.result) for picture in self.pictures]),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _table(self, title: str, rows: Sequence[tuple[str, Figures]]) -> str:
        keys = ["psnr", "ssim"]
        if any(figures.plain.lpips is not None for _, figures in rows):
            keys.append("lpips")
        heads = [_cell(title), *(key.upper() for key in keys), *(f"{key.upper()}, GT-mean" for key in keys), "gain"]
        lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
        for name, figures in rows:
            cells = [_shown(key, getattr(s, key)) for s in (figures.plain, figures.gt_mean) for key in keys]
            lines.append(f"| {_cell(name)} | {' | '.join(cells)} | {figures.gain:.2f} |")
        return "\n".join(lines)


def evaluate_images(
    pairs: Sequence[Pair],
    *,
    contender: Contender,
    dataset: str = "",
    lpips: bool = False,
    command: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> ImagesReport:
    """Enhance the dark picture of every pair and score it against the well-lit one.

    All files are opened before the first is enhanced, so that a bad one does not cost hours.

    Args:
        pairs: What to measure, at least one.
        contender: Model and its settings; of the other sections ``input.tonemap`` and ``run.workers`` count.
        dataset: What the set is called in the report.
        lpips: Score LPIPS as well.
        command: How this was called, for the record.
        progress: Told the number of pictures done, of all, and the name of the next.

    Raises:
        MediaError: A file cannot be read, is damaged or smaller than 11x11 pixels, or differs in size from its partner.
        ConfigError: There are no pairs, LPIPS is not installed, or the model does not take its settings.
        ModelError: The model cannot be loaded.
        DeviceError: The device is not there or too small.
    """
    if not pairs:
        raise ConfigError("there are no pairs to evaluate")
    perceptual = metrics.open_lpips() if lpips else None
    smallest = metrics.LPIPS_SIDE if lpips else metrics.WINDOW
    config = contender.config
    for pair in pairs:
        _read_pair(pair, config, smallest)
    enhancer = contender.open()
    pictures = []
    try:
        for done, pair in enumerate(pairs):
            progress(done, len(pairs), pair.name)
            pictures.append(_measure(pair, enhancer, config, perceptual, smallest))
        return ImagesReport(command, describe_machine(), dataset, contender.describe(enhancer), pictures)
    finally:
        enhancer.close()


def score(result: Tensor, reference: Tensor, *, lpips: metrics.Metric | None = None) -> Figures:
    """All figures of one picture.

    Args:
        result: ``(1, 3, H, W)`` float RGB, [0, 1].
        reference: The same shape.
        lpips: From :func:`streamlight.evaluation.metrics.open_lpips`.
    """

    def scores(picture: Tensor) -> Scores:
        return Scores(
            float(metrics.psnr(picture, reference)),
            float(metrics.ssim(picture, reference)),
            None if lpips is None else float(lpips(picture, reference)),
        )

    aligned = metrics.gt_mean(result, reference)
    return Figures(scores(result), scores(aligned), float(metrics.gt_mean_gain(result, reference)))


def _measure(
    pair: Pair, enhancer: Enhancer, config: Config, lpips: metrics.Metric | None, smallest: int
) -> PictureResult:
    low, lit = _read_pair(pair, config, smallest)
    dark, reference = _tensor(low), _tensor(lit)
    begin = time.perf_counter()
    enhancer([low], [enhancer.new_state()])
    seconds = time.perf_counter() - begin
    result = score(_tensor(low), reference, lpips=lpips)
    return PictureResult(pair.name, low.width, low.height, seconds, result, score(dark, reference, lpips=lpips))


def _read_pair(pair: Pair, config: Config, smallest: int) -> tuple[Frame, Frame]:
    low, lit = _read(pair.low, config), _read(pair.reference, config)
    for path, frame in ((pair.low, low), (pair.reference, lit)):
        if min(frame.width, frame.height) < smallest:
            raise MediaError(
                f"{path}: is {frame.width}x{frame.height}, pictures must be at least {smallest}x{smallest} pixels"
            )
    if (low.width, low.height) != (lit.width, lit.height):
        raise MediaError(
            f"{pair.low} is {low.width}x{low.height}, but {pair.reference} is {lit.width}x{lit.height}; the two "
            "pictures of a pair must have one size"
        )
    return low, lit


def _read(path: Path, config: Config) -> Frame:
    with open_source(path, tonemap=config.input.tonemap, threads=config.input.decoder_threads) as source:
        frame = next(source.frames(), None)
    if frame is None:
        raise MediaError(f"{path}: no picture can be decoded")
    if frame.damaged or is_cut_off(path):
        raise MediaError(f"{path}: is damaged, only part of the picture can be decoded")
    return frame


def _tensor(frame: Frame) -> Tensor:
    rgb = np.ascontiguousarray(to_rgb(frame, 8).transpose(2, 0, 1))
    return torch.from_numpy(rgb)[None].float() / 255.0


def _mean(all_figures: Sequence[Figures]) -> Figures:
    def mean(of: Callable[[Figures], Scores]) -> Scores:
        scores = [of(figures) for figures in all_figures]
        distances = [s.lpips for s in scores if s.lpips is not None]
        return Scores(
            math.fsum(s.psnr for s in scores) / len(scores),
            math.fsum(s.ssim for s in scores) / len(scores),
            math.fsum(distances) / len(distances) if distances else None,
        )

    gain = math.fsum(figures.gain for figures in all_figures) / len(all_figures)
    return Figures(mean(lambda figures: figures.plain), mean(lambda figures: figures.gt_mean), gain)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.{2 if key == 'psnr' else 4}f}"
