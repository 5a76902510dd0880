"""One case of ``streamlight bench gpu``, in a process of its own, so that its memory and its failure are its own.

``python -m streamlight.evaluation.gpu_case '{"case": "row", "row": "llflow", …}'`` prints a line of JSON, a
:class:`~streamlight.evaluation.gpu_rows.GpuSample`, behind every part; each holds all that was found until then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final

from streamlight.evaluation.gpu_ceilings import measure_ceilings
from streamlight.evaluation.gpu_measure import measure_row
from streamlight.evaluation.gpu_parity import measure_parity
from streamlight.evaluation.gpu_parts import Parts
from streamlight.evaluation.gpu_pipeline import measure_pipeline
from streamlight.evaluation.gpu_rows import CaseName, GpuOrder, GpuSample

CASES: Final[dict[CaseName, Callable[[GpuOrder, Parts], None]]] = {
    "ceilings": measure_ceilings,
    "row": measure_row,
    "parity": measure_parity,
    "pipeline": measure_pipeline,
}


def run(order: GpuOrder, tell: Callable[[str], None] = lambda _: None) -> GpuSample:
    """Measure one case in this process.

    Args:
        order: Which.
        tell: Is given the sample as JSON behind every part.
    """
    parts = Parts(tell)
    CASES[order.case](order, parts)
    return parts.sample


def main(text: str) -> int:
    """Run one case and print its samples."""
    run(GpuOrder(**json.loads(text)), lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
