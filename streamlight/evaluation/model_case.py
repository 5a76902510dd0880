"""One generative model on one picture, in a process of its own so that its peak memory is its own.

``python -m streamlight.evaluation.model_case '{"architecture": "llflow", "configuration": "LOL-pc", …}'`` prints one
line of JSON, a :class:`ModelSample`. Weights are random: time and memory do not depend on their values.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from streamlight.engine.report import peak_memory
from streamlight.errors import ModelError, StreamlightError
from streamlight.models.protocol import GenerativeModel
from streamlight.models.registry import architecture
from streamlight.models.sampling import draw_latent
from streamlight.models.weights import Weights

GLARE_CODES = 8192
"""Entries of GLARE's published codebook."""


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """What to measure.

    Attributes:
        architecture: ``llflow``, ``glare`` or ``lldiffusion``.
        configuration: Name of a published configuration.
        width: Width of the picture.
        height: Height of the picture.
        dtype: Working precision.
        repeat: Timed runs, after a small picture that warms up.
        keywords: Settings of the model, for example ``steps``.
    """

    architecture: str
    configuration: str
    width: int
    height: int
    dtype: str = "float32"
    repeat: int = 1
    keywords: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelSample:
    """What was measured.

    Attributes:
        seconds: Median over the runs: condition, prior, decode.
        spread: Slowest over fastest run.
        macs: Multiply-accumulates of one run, as the operations that really ran count them.
        peak_gflops: Speed of a large matrix product in the same process and precision, in GFLOP/s.
        peak_memory: Largest resident size of the process, bytes.
        parameters: Numbers in the weights.
    """

    seconds: float
    spread: float
    macs: int
    peak_gflops: float
    peak_memory: int
    parameters: int


def run(order: ModelOrder) -> ModelSample:
    """Measure one case.

    Raises:
        ModelError: There is no such architecture or configuration.
    """
    ceiling = product_gflops(getattr(torch, order.dtype))
    model, parameters = build_random(
        order.architecture, order.configuration, dtype=order.dtype, **(order.keywords or {})
    )
    generator = torch.Generator().manual_seed(1)
    low = 0.15 * torch.rand(1, 3, order.height, order.width, generator=generator)
    _picture(model, low[..., :64, :64])  # what is prepared once per model is not part of a picture's time
    times = []
    for _ in range(order.repeat):
        begin = time.perf_counter()
        _picture(model, low)
        times.append(time.perf_counter() - begin)
    memory = peak_memory()
    return ModelSample(median(times), max(times) / min(times), count_macs(model, low), ceiling, memory, parameters)


def build_random(name: str, configuration: str, *, seed: int = 0, **keywords: Any) -> tuple[GenerativeModel, int]:
    """A published configuration with random weights, and how many parameters it has.

    Raises:
        ModelError: There is no such architecture or configuration.
    """
    kind = architecture(name)
    if configuration not in kind.published:
        raise ModelError(
            f"model {name!r} has no published configuration {configuration!r}; there are {', '.join(kind.published)}"
        )
    config = kind.published[configuration]
    if getattr(config, "codes", None) == 0:
        # GLARE is published in two files; one network of both needs the size of the codebook.
        config = replace(config, codes=GLARE_CODES)
    torch.manual_seed(seed)
    network: nn.Module = kind.network(config)
    tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}
    del network
    model = kind.build(Weights(path=f"random {configuration}", tensors=tensors), **keywords)
    return model, sum(tensor.numel() for tensor in tensors.values())


@torch.inference_mode()
def _picture(model: GenerativeModel, low: torch.Tensor) -> torch.Tensor:
    condition = model.condition(low)
    generator = torch.Generator().manual_seed(0)
    return model.decode(
        draw_latent(model.prior(condition), temperature=model.temperature, generator=generator), condition
    )


def count_macs(model: GenerativeModel, low: torch.Tensor) -> int:
    """Multiply-accumulates of one picture: convolutions, matrix products and attention that run."""
    return macs_of(lambda: _picture(model, low))


def macs_of(work: Callable[[], object]) -> int:
    """Multiply-accumulates of ``work``: convolutions, matrix products and attention that run; not those of graphs."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


def product_gflops(dtype: torch.dtype, *, size: int = 2048, runs: int = 5) -> float:
    """Speed of a ``size``³ matrix product in ``dtype`` with all threads, in GFLOP/s: the ceiling.

    Both ways that torch has are tried, as a product and as a 1x1 convolution, and the faster counts: on processors of
    other makers the library behind ``@`` runs at half the speed of the one behind convolutions. Median of ``runs``.
    """
    a, b = (torch.randn(size, size, dtype=torch.float32).to(dtype) for _ in range(2))
    pixels = a.t().reshape(1, size, 1, size).contiguous()
    kernels = b[:, :, None, None].contiguous()
    ways = (lambda: a @ b, lambda: torch.nn.functional.conv2d(pixels, kernels))
    best = min(_median_seconds(way, runs) for way in ways)
    return 2.0 * size**3 / best / 1e9


@torch.inference_mode()
def _median_seconds(action: Callable[[], object], runs: int) -> float:
    action()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return median(times)


def main(text: str) -> int:
    """Run one case and print its sample; a known error is printed alone, on stderr."""
    try:
        sample = run(ModelOrder(**json.loads(text)))
    except StreamlightError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(sample)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
