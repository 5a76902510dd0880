"""Stages, bounded queues, transfers, reports. Knows threads and CUDA streams; no PyAV, no model."""

from streamlight.engine.latency import LatencyHistogram
from streamlight.engine.pipeline import Pipeline, PipelineStats, Stage, StageStats
from streamlight.engine.queues import BoundedQueue, QueueAborted, QueueClosed
from streamlight.engine.report import Notice, Report, peak_memory, to_plain
from streamlight.engine.rows import RowPool, available_cores

__all__ = [
    "BoundedQueue",
    "LatencyHistogram",
    "Notice",
    "Pipeline",
    "PipelineStats",
    "QueueAborted",
    "QueueClosed",
    "Report",
    "RowPool",
    "Stage",
    "StageStats",
    "available_cores",
    "peak_memory",
    "to_plain",
]
