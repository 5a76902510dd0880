"""LLFlow: low-light enhancement with a normalizing flow (Wang et al., AAAI 2022)."""

from streamlight.models.llflow.config import LLFlowConfig
from streamlight.models.llflow.model import ARCHITECTURE, LLFlow
from streamlight.models.llflow.network import LLFlowNetwork

__all__ = ["ARCHITECTURE", "LLFlow", "LLFlowConfig", "LLFlowNetwork"]
