"""Tiny ONNX detectors, written without the onnx package: they find red and blue squares that fill a cell of a grid.

Every one is a real graph over its picture (pooling, matrix product), in the layout of a known family, so that colours,
ranges, letterboxing and decoding are all seen in where and what it finds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 64
STRIDES = (8, 16, 32)
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)
QUERIES = (SIDE // STRIDES[1]) ** 2
NAMES = "{0: 'red', 1: 'blue'}"


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}[array.dtype]
    dims = b"".join(field(1, int(size)) for size in array.shape)
    return dims + field(2, kind) + field(8, name) + field(9, np.ascontiguousarray(array).tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


class Graph:
    """Collects nodes; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.ports: dict[int, list[bytes]] = {11: [], 12: []}
        self.count = 0

    def input(self, name: str, shape: Sequence[int | str], *, kind: int = 1) -> str:
        self.ports[11].append(_value(name, kind, shape))
        return name

    def output(self, source: str, name: str, shape: Sequence[int | str], *, kind: int = 1) -> None:
        self.nodes.append(field(1, source) + field(2, name) + field(4, "Identity"))
        self.ports[12].append(_value(name, kind, shape))

    def constant(self, array: Any, dtype: type = np.float32) -> str:
        self.count += 1
        self.tensors.append(_tensor(f"c{self.count}", np.asarray(array, dtype)))
        return f"c{self.count}"

    def node(self, kind: str, *inputs: str, **attributes: int | list[int]) -> str:
        self.count += 1
        body = b"".join(field(1, name) for name in inputs) + field(2, f"t{self.count}") + field(4, kind)
        for key, value in attributes.items():
            if isinstance(value, int):
                body += field(5, field(1, key) + field(3, value) + field(20, 2))
            else:
                body += field(5, field(1, key) + b"".join(field(8, one) for one in value) + field(20, 7))
        self.nodes.append(body)
        return f"t{self.count}"

    def write(self, path: Path, metadata: dict[str, str] | None = None) -> Path:
        graph = b"".join(field(1, node) for node in self.nodes) + field(2, "g")
        graph += b"".join(field(5, tensor) for tensor in self.tensors)
        graph += b"".join(field(number, port) for number, ports in self.ports.items() for port in ports)
        model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))
        for key, value in (metadata or {}).items():
            model += field(14, field(1, key) + field(2, value))
        path.write_bytes(model)
        return path


def cell_boxes() -> np.ndarray:
    """Centre and size of every cell in pixels, ``(CELLS, 4)``."""
    rows = []
    for stride in STRIDES:
        for y in range(SIDE // stride):
            rows += [((x + 0.5) * stride, (y + 0.5) * stride, stride, stride) for x in range(SIDE // stride)]
    return np.array(rows, np.float32)


def middle() -> slice:
    """The cells of stride 16, which the models answer for."""
    first = (SIDE // STRIDES[0]) ** 2
    return slice(first, first + (SIDE // STRIDES[1]) ** 2)


def redness(graph: Graph, picture: str, *, bgr: bool = False, white: float = 1.0) -> str:
    """How red and how blue every cell is, ``(1, 2, CELLS)``, 1 for the pure colour; 0 in cells of other strides."""
    pooled = []
    for stride in STRIDES:
        mean = graph.node("AveragePool", picture, kernel_shape=[stride, stride], strides=[stride, stride])
        pooled.append(graph.node("Reshape", mean, graph.constant([1, 3, -1], np.int64)))
    cells = graph.node("Concat", *pooled, axis=2)
    mix = np.array([[[1, -0.5, -0.5], [-0.5, -0.5, 1]]], np.float32) / white
    colours = graph.node("MatMul", graph.constant(mix[:, ::-1] if bgr else mix), cells)
    mask = np.zeros((1, 1, CELLS), np.float32)
    mask[..., middle()] = 1.0
    return graph.node("Relu", graph.node("Mul", colours, graph.constant(mask)))


def queries(graph: Graph, colours: str) -> str:
    """The cells of stride 16 alone, ``(1, 2, QUERIES)``: queries are no grid."""
    return graph.node("MatMul", colours, graph.constant(np.eye(CELLS, dtype=np.float32)[:, middle()][None]))


def query_boxes(*, corners: bool = False) -> np.ndarray:
    """Their boxes in pixels, ``(1, QUERIES, 4)``."""
    boxes = cell_boxes()[middle()]
    if corners:
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    return boxes[None]


def yolox(path: Path, *, decoded: bool = False, metadata: dict[str, str] | None = None) -> Path:
    graph = Graph()
    picture = graph.input("images", (1, 3, SIDE, SIDE))
    colours = graph.node("Transpose", redness(graph, picture, bgr=True, white=255.0), perm=[0, 2, 1])
    boxes = cell_boxes() if decoded else np.tile(np.array([0.5, 0.5, 0, 0], np.float32), (CELLS, 1))
    known = np.concatenate([boxes, np.ones((CELLS, 1), np.float32)], axis=1)[None]
    graph.output(graph.node("Concat", graph.constant(known), colours, axis=2), "output", (1, CELLS, 7))
    return graph.write(path, metadata)


def yolov8(path: Path, *, metadata: dict[str, str] | None = None, size: Sequence[int | str] = (SIDE, SIDE)) -> Path:
    graph = Graph()
    picture = graph.input("images", (1, 3, *size))
    out = graph.node("Concat", graph.constant(cell_boxes().T[None]), redness(graph, picture), axis=1)
    graph.output(out, "output0", (1, 6, CELLS))
    return graph.write(path, {"names": NAMES} if metadata is None else metadata)


def yolov5(path: Path) -> Path:
    graph = Graph()
    picture = graph.input("images", (1, 3, SIDE, SIDE))
    colours = graph.node("Transpose", redness(graph, picture), perm=[0, 2, 1])
    known = np.concatenate([cell_boxes(), np.ones((CELLS, 1), np.float32)], axis=1)[None]
    once = graph.node("Concat", graph.constant(known), colours, axis=2)
    graph.output(graph.node("Concat", once, once, once, axis=1), "output0", (1, 3 * CELLS, 7))
    return graph.write(path)


def end2end(path: Path) -> Path:
    """Corners, score, class; reds only."""
    graph = Graph()
    picture = graph.input("images", (1, 3, SIDE, SIDE))
    only = graph.node("MatMul", graph.constant([[[1, 0]]]), queries(graph, redness(graph, picture)))
    score = graph.node("Transpose", only, perm=[0, 2, 1])
    known, zeros = graph.constant(query_boxes(corners=True)), graph.constant(np.zeros((1, QUERIES, 1)))
    graph.output(graph.node("Concat", known, score, zeros, axis=2), "output0", (1, QUERIES, 6))
    return graph.write(path, {"names": NAMES})


def detr(path: Path, *, softmax: bool = False, rf: bool = False) -> Path:
    """Boxes relative to the picture and logits; with a mask of pixels as input, as DETR has it.

    ``rf``: under RF-DETR's names, with a last class that means nothing, is sure of itself, and must be passed over.
    """
    graph = Graph()
    picture = graph.input("pixel_values", ("batch", 3, SIDE, SIDE))
    mask = graph.input("pixel_mask", ("batch", SIDE, SIDE), kind=7)
    seen = graph.node("ReduceMin", graph.node("Cast", mask, to=1), axes=[1, 2], keepdims=1)  # (1, 1, 1): all ones
    # With ImageNet's mean and deviation a pure colour is about 4, grey about 0.
    colours = queries(graph, redness(graph, picture, white=4.0 if softmax or rf else 1.0))
    logits = graph.node("Sub", graph.node("Mul", colours, seen), graph.constant(0.5))
    logits = graph.node("Transpose", graph.node("Mul", logits, graph.constant(16.0)), perm=[0, 2, 1])
    if softmax or rf:
        nothing = np.full((1, QUERIES, 1), 9.0 if rf else 0.0)
        logits = graph.node("Concat", logits, graph.constant(nothing), axis=2)
    graph.output(logits, "labels" if rf else "logits", ("batch", QUERIES, 3 if softmax or rf else 2))
    graph.output(graph.constant(query_boxes() / SIDE), "dets" if rf else "pred_boxes", ("batch", QUERIES, 4))
    return graph.write(path, {"names": NAMES})


def rtdetr(path: Path) -> Path:
    """Labels, boxes and scores, in the size that is asked for; reds only."""
    graph = Graph()
    picture = graph.input("images", ("N", 3, SIDE, SIDE))
    wanted = graph.node("Cast", graph.input("orig_target_sizes", ("N", 2), kind=7), to=1)
    factor = graph.node("Reshape", graph.node("Concat", wanted, wanted, axis=1), graph.constant([1, 1, 4], np.int64))
    only = graph.node("MatMul", graph.constant([[[1, 0]]]), queries(graph, redness(graph, picture)))
    graph.output(graph.constant(np.zeros((1, QUERIES)), np.int64), "labels", ("N", QUERIES), kind=7)
    known = graph.constant(query_boxes(corners=True) / SIDE)
    graph.output(graph.node("Mul", known, factor), "boxes", ("N", QUERIES, 4))
    graph.output(graph.node("Reshape", only, graph.constant([1, -1], np.int64)), "scores", ("N", QUERIES))
    return graph.write(path, {"names": NAMES})
