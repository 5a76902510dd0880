"""Stages, bounded queues, transfers, reports. Knows threads and CUDA streams; no PyAV, no model."""

from streamlight.engine.graphs import GraphCache, graph_cache
from streamlight.engine.latency import LatencyHistogram
from streamlight.engine.link import DevicePlanes, Link, LinkStats, across
from streamlight.engine.pipeline import Pipeline, PipelineStats, Stage, StageStats
from streamlight.engine.queues import BoundedQueue, QueueAborted, QueueClosed
from streamlight.engine.report import Notice, Report, peak_memory, to_plain
from streamlight.engine.rows import RowPool, available_cores
from streamlight.engine.timeline import Span, Timeline, busy_seconds, hidden_share

__all__ = [
    "BoundedQueue",
    "DevicePlanes",
    "GraphCache",
    "LatencyHistogram",
    "Link",
    "LinkStats",
    "Notice",
    "Pipeline",
    "PipelineStats",
    "QueueAborted",
    "QueueClosed",
    "Report",
    "RowPool",
    "Span",
    "Stage",
    "StageStats",
    "Timeline",
    "across",
    "available_cores",
    "busy_seconds",
    "graph_cache",
    "hidden_share",
    "peak_memory",
    "to_plain",
]
