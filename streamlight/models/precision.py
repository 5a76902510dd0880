"""What float32 means on a card."""

from __future__ import annotations

import torch


def exact_float32() -> None:
    """Compute in float32 where float32 is said, in this process: no TF32, which torch allows convolutions by default.

    TF32 keeps 10 bits of a factor. GLARE's latent then picks other codes and LLFlow's inverse loses its digits; who
    wants speed chooses a working precision, and the parts that need float32 stay what they are.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
