"""First weights of networks that are trained from nothing."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module, *, slope: float = 0.1, last: nn.Conv2d | nn.Linear, std: float) -> None:
    """He initialisation of all convolutions and linear layers in front of leaky ReLUs, biases 0.

    Does nothing on the meta device, where there is nothing to fill and drawing normal numbers would import a compiler.

    Args:
        network: With convolutions and linear layers.
        slope: Of the leaky ReLUs.
        last: The layer that gives the answer, which begins near 0.
        std: Standard deviation of its weights.
    """
    if last.weight.is_meta:
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(last.weight, std=std)
