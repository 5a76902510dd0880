"""Stages, bounded queues, transfers, reports. Knows threads and CUDA streams; no PyAV, no model."""

from streamlight.engine.rows import RowPool, available_cores

__all__ = ["RowPool", "available_cores"]
