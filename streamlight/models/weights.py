"""Weights files: what is read from them, what is refused, and how tensors come into a network.

Two containers are read. ``safetensors`` holds nothing but tensors. PyTorch's own container is a pickle, so it goes
through the restricted unpickler only: a file that names any class or function beyond tensors, plain containers and
:class:`argparse.Namespace` (an inert record that training scripts like to store) is refused, not run.

The container is recognised by its first bytes; a suffix says nothing (GLARE's ``vqgan.pkl`` is a PyTorch file).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from streamlight.errors import ModelError

Container = Literal["safetensors", "torch"]
Module = TypeVar("Module", bound=nn.Module)

_STATE_KEYS: Final = ("state_dict", "model_state_dict", "params", "model", "net_g", "generator", "network")
_EMA_KEYS: Final = ("ema_helper", "params_ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema")
_PREFIX: Final = re.compile(r"^(?:module\.|_orig_mod\.)+")
_SHOWN: Final = 6
_MAX_HEADER: Final = 100_000_000
"""Largest header that the safetensors format allows, in bytes."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors of one file under their names.

    Attributes:
        path: The file, as the user named it.
        tensors: Name → tensor as stored (any floating type), without ``module.`` and ``_orig_mod.`` prefixes.
        container: How the file stores them.
        entry: Which entry of the file they are: ``""`` for a bare state dict, else e.g. ``"state_dict"``.
        ema: Whether averaged weights are ``"absent"``, ``"available"`` or ``"used"``.
        beside: Entries of the file that are not these tensors (optimizer, epoch, …), by name.
        metadata: Free text of a safetensors file.
    """

    path: str
    tensors: dict[str, Tensor]
    container: Container = "safetensors"
    entry: str = ""
    ema: Literal["absent", "available", "used"] = "absent"
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a set of tensors fits a network.

    Attributes:
        missing: Names that the network needs and the file lacks.
        surplus: Names in the file that the network does not know.
        unused: Names in the file that are known to influence nothing, and are dropped.
        misshapen: ``(name, shape in the file, shape expected)``.
        nonfinite: Names of tensors that hold NaN or infinity.
    """

    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    nonfinite: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the network can be used with these tensors."""
        return not (self.missing or self.surplus or self.misshapen or self.nonfinite)

    def problems(self) -> list[str]:
        """One sentence per kind of misfit, with names."""
        found = []
        for names, text in ((self.missing, "missing"), (self.surplus, "not part of this architecture")):
            if names:
                found.append(f"{len(names)} tensors {text}: {listing(names)}")
        if self.misshapen:
            shapes = [f"{name} is {_size(got)}, expected {_size(want)}" for name, got, want in self.misshapen]
            found.append(f"{len(shapes)} tensors of the wrong shape: {listing(shapes)}")
        if self.nonfinite:
            found.append(f"{len(self.nonfinite)} tensors hold NaN or infinity: {listing(self.nonfinite)}")
        return found


def read_weights(path: str | Path, *, ema: bool = False) -> Weights:
    """Read the tensors of a weights file onto the CPU, as stored.

    Args:
        path: A ``.safetensors`` file, or a PyTorch file with a state dict or a training checkpoint around one.
        ema: Take the exponential moving average of the weights where the file holds one. Names that the average
            does not cover (buffers) come from the plain state dict.

    Raises:
        ModelError: The file is absent, truncated, of another kind, would run code, or holds no tensors; or ``ema``
            was asked for and there is none.
    """
    name = str(path)
    container = _container(Path(path), name)
    if container == "safetensors":
        tensors, metadata = _read_safetensors(name)
        if ema:
            raise ModelError(f"{name}: holds no averaged (EMA) weights; leave ema off")
        return Weights(name, strip_prefixes(tensors, name), container, metadata=metadata)
    return _unwrap(_read_torch(name), name, ema=ema)


def strip_prefixes(tensors: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Names without the prefixes that parallel or compiled wrappers put before them.

    Raises:
        ModelError: Two names become one.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = _PREFIX.sub("", name)
        if short in plain:
            raise ModelError(f"{path}: holds {short!r} twice, with and without a 'module.' prefix")
        plain[short] = tensor
    return plain


def compare(network: nn.Module, tensors: Mapping[str, Tensor], *, unused: Iterable[str] = ()) -> Fit:
    """Compare a set of tensors with what a network needs.

    Args:
        network: The network; may live on the meta device.
        tensors: Name → tensor.
        unused: Regular expressions (matched at the start) of names that influence nothing.
    """
    wanted = network.state_dict()
    dead = re.compile("|".join(unused)) if (unused := tuple(unused)) else None
    surplus = [name for name in tensors if name not in wanted]
    dropped = [name for name in surplus if dead is not None and dead.match(name)]
    shared = [name for name in wanted if name in tensors]
    return Fit(
        missing=tuple(name for name in wanted if name not in tensors),
        surplus=tuple(name for name in surplus if name not in set(dropped)),
        unused=tuple(dropped),
        misshapen=tuple(
            (name, tuple(tensors[name].shape), tuple(wanted[name].shape))
            for name in shared
            if tensors[name].shape != wanted[name].shape
        ),
        nonfinite=tuple(name for name in shared if not _finite(tensors[name])),
    )


def assemble(make: Callable[[], Module], weights: Weights, *, unused: Iterable[str] = ()) -> Module:
    """Make a network and fill it with the tensors of a file, in float32, in evaluation mode.

    ``make`` runs on the meta device, so that nothing is initialised only to be overwritten; the network must
    therefore keep no non-persistent buffers that its constructor computes.

    Args:
        make: Constructs the network.
        weights: What :func:`read_weights` returned.
        unused: Regular expressions of names that influence nothing and are dropped.

    Raises:
        ModelError: A tensor is missing, surplus, of the wrong shape, or holds NaN; the message names it.
    """
    with torch.device("meta"):
        network = make()
    fit = compare(network, weights.tensors, unused=unused)
    if not fit.complete:
        raise ModelError(f"{weights.path}: does not fit the network: {'; '.join(fit.problems())}")
    wanted = network.state_dict()
    tensors = {name: _native(weights.tensors[name]) for name in wanted}
    network.load_state_dict(tensors, strict=True, assign=True)
    left = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
    if left:
        raise RuntimeError(f"{type(network).__name__} computes {left} in its constructor; compute them on use instead")
    return network.eval()


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as they are to a safetensors file, through a temporary file beside it.

    Raises:
        ModelError: The file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    # clone: safetensors refuses tensors that share memory, which state dicts with tied weights do
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(plain, metadata={"format": "pt", **(metadata or {})})
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ModelError(f"{target}: cannot be written: {_first_line(error)}") from error


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits that change with any name, type, shape or bit of ``tensors``, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def listing(names: Iterable[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    names = list(names)
    more = f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _container(path: Path, name: str) -> Container:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ModelError(f"{name}: is a folder; name the weights file in it")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelError(f"{name}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise ModelError(f"{name}: is empty; download it again")
    if head.lstrip()[:1] == b"<":
        raise ModelError(f"{name}: is a web page, not a weights file; the download was not completed")
    if head[:4] == b"PK\x03\x04":
        return "torch"
    # safetensors first: the length of its header may begin with the byte of a pickle
    if head[8:9] == b"{" and (length := struct.unpack("<Q", head[:8])[0]) <= _MAX_HEADER:
        if 8 + length > size:
            raise ModelError(f"{name}: is truncated: {size} bytes, its header alone needs {8 + length}")
        return "safetensors"
    if head[:1] == b"\x80":
        return "torch"
    raise ModelError(f"{name}: is not a weights file; expected .safetensors or a PyTorch .pth")


def _read_safetensors(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(name, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{name}: is truncated or damaged: {error}") from error
    if not tensors:
        raise ModelError(f"{name}: holds no tensors")
    return tensors, metadata


def _read_torch(name: str) -> Any:
    """The unpickled object; tensors may still lie in the file (memory-mapped)."""
    with open(name, "rb") as file:
        mapped = file.read(2) == b"PK"  # the old container cannot be mapped
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(name, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise ModelError(f"{name}: is damaged, or holds more than tensors: {_first_line(error)}") from error
        raise ModelError(
            f"{name}: refused: it asks for {asked[1]!r}, and a pickle that names classes or functions can run code. "
            f"Get the weights as .safetensors, or save the bare state dict again where you trust the file"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError, AttributeError, TypeError) as error:
        raise ModelError(f"{name}: is truncated or damaged: {_first_line(error)}") from error


def _unwrap(found: Any, path: str, *, ema: bool) -> Weights:
    """Find the state dict inside what a PyTorch file holds."""
    entry, outer = "", found
    for _ in range(3):
        if not isinstance(outer, dict):
            raise ModelError(f"{path}: holds a {type(outer).__name__}, not a state dict")
        if any(isinstance(value, Tensor) for value in outer.values()):
            break
        inner = next((key for key in (*_STATE_KEYS, *_EMA_KEYS) if _holds_tensors(outer.get(key))), None)
        if inner is None:
            raise ModelError(f"{path}: holds no state dict; its entries are {listing(map(str, outer)) or 'none'}")
        averages = {key: outer[key] for key in _EMA_KEYS if _holds_tensors(outer.get(key))}
        entry, beside = inner, tuple(str(key) for key in outer if key != inner)
        return _choose(outer[inner], averages, path, entry=entry, beside=beside, ema=ema)
    if ema:
        raise ModelError(f"{path}: holds no averaged (EMA) weights; leave ema off")
    return Weights(path, _tensors(outer, path), "torch", beside=_non_tensors(outer))


def _choose(
    state: dict[str, Any], averages: dict[str, dict[str, Any]], path: str, *, entry: str, beside: Any, ema: bool
) -> Weights:
    state, presence = _flat(state), "available" if averages else "absent"
    tensors = _tensors(state, path)
    if entry in _EMA_KEYS:
        presence = "used"
    elif ema:
        if not averages:
            raise ModelError(f"{path}: holds no averaged (EMA) weights; its entries are {listing((entry, *beside))}")
        average = _tensors(_flat(next(iter(averages.values()))), path)
        foreign = [name for name in average if name not in tensors]
        if foreign:
            raise ModelError(f"{path}: the averaged weights hold names the model lacks: {listing(foreign)}")
        tensors, presence = {**tensors, **average}, "used"
    return Weights(path, tensors, "torch", entry=entry, ema=presence, beside=beside)  # type: ignore[arg-type]


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    """The dict of tensors itself, where it lies one level deeper (``{"shadow": {…}}``)."""
    if any(isinstance(value, Tensor) for value in state.values()):
        return state
    return next(value for value in state.values() if _holds_tensors(value))


def _holds_tensors(value: Any, depth: int = 2) -> bool:
    if not isinstance(value, dict) or depth == 0:
        return False
    return any(isinstance(item, Tensor) or _holds_tensors(item, depth - 1) for item in value.values())


def _tensors(state: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    # clone: what was chosen leaves the mapped file, the rest of a training checkpoint is never read
    tensors = {str(key): value.detach().clone() for key, value in state.items() if isinstance(value, Tensor)}
    return strip_prefixes(tensors, path)


def _non_tensors(state: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(key) for key, value in state.items() if not isinstance(value, Tensor))


def _native(tensor: Tensor) -> Tensor:
    """In float32, and aligned: matrix products of the same numbers differ in the last bit where memory is not."""
    native = tensor.float() if tensor.is_floating_point() else tensor
    return native.clone() if native.data_ptr() % 64 else native


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all())


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
