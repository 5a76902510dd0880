"""Networks in these tests are small: threads cost more than they give, all the more beside other work."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
