"""Stages, bounded queues, transfers, reports. Knows threads and CUDA streams; no PyAV, no model."""
