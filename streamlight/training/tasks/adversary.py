"""An adversary that trains in the same step as what it judges.

Both sides of a game in one loss: each term reaches only the side it is meant for, so one optimiser steps both at once
and the loop need not know that there are two.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from streamlight.models.nn.resblock import group_norm


class Game(NamedTuple):
    """Losses of one step, scalars.

    Attributes:
        deceive: Its gradient goes to the picture only.
        judge: Its gradient goes to the discriminator only.
    """

    deceive: Tensor
    judge: Tensor


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of 70 pixels (Isola et al., arXiv:1611.07004), as VQGAN's does (arXiv:2012.09841).

    Group normalisation takes the place of batch normalisation: batches are small, and judging twice per step would
    count twice into running statistics.

    Args:
        width: Channels of the first layer.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        groups = max(1, width // 8)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for factor, stride in ((2, 2), (4, 2), (8, 1)):
            channels = width * min(8, factor) // 2
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride=stride, padding=1, bias=False),
                group_norm(2 * channels, groups),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        """``(N, 3, H, W)``, at least 32 pixels each way, to ``(N, 1, h, w)``: high where it looks real."""
        return self.layers(picture)


def play(discriminator: PatchDiscriminator, picture: Tensor, target: Tensor) -> Game:
    """One step of the game, with hinge losses.

    Args:
        discriminator: The judge.
        picture: What was made, ``(N, 3, H, W)``.
        target: What is real, likewise.
    """
    as_it_is = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    deceive = -functional_call(discriminator, as_it_is, (picture,)).mean()
    real, made = discriminator(target), discriminator(picture.detach())
    return Game(deceive, 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean()))
