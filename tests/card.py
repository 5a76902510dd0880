"""A simulated card: a device whose tensors hold real values and that says what would have made the host wait for it.

PyTorch lets a backend be written in Python (``PrivateUse1``). This one is called ``card``; its tensors wrap tensors of
the host, so every result is the CPU's, but ``tensor.device.type`` is "card" and the code under test takes the way of a
device. What a card cannot do without a wait raises :class:`Synchronised`:

* reading a value on the host: ``item()``, ``float()``, ``bool()``, ``tolist()``, ``.cpu()``, ``.numpy()``;
* results whose size depends on values: ``nonzero``, ``masked_select``, boolean indices, ``unique``
  (``x[mask] = 0.0`` too, which CUDA does without a wait: write ``masked_fill_``);
* copies from the host: ``.to(device)``, ``copy_``, ``torch.tensor(..., device=...)``, indices from the host.

Tensors of the host and of the card must not meet in one operation, host tensors of no dimension excepted, as on CUDA.

Nothing is checked outside ``with card()``. Limits: no ``requires_grad`` through views, no change of a tensor's shape in
place (``squeeze_``, ``resize_``), no generator on the card; data_ptr() is no address.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

# What waits for the card whatever its arguments are.
WAITS = {
    aten._local_scalar_dense,
    aten.equal,
    aten.is_nonzero,
    aten.item,
    aten.masked_select,
    aten.nonzero,
    aten.nonzero_numpy,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.unique_dim_consecutive,
    aten._unique,
    aten._unique2,
    aten.bincount,
    aten.multinomial,
    aten._linalg_check_errors,
    aten.allclose,
    aten.linalg_eigh,
    aten.linalg_solve,
    aten.linalg_inv,
    aten.linalg_cholesky,
}
# Composites that run as one operation: taken apart for a foreign device they would round otherwise than on the CPU.
WHOLE = {
    aten.linear,
    aten.matmul,
    aten.conv1d,
    aten.conv2d,
    aten.conv_transpose2d,
    aten.einsum,
    aten.quantile,
    aten.nanquantile,
    aten.scaled_dot_product_attention,
    aten.layer_norm,
    aten.group_norm,
    aten.batch_norm,
}
RESHAPES_IN_PLACE = {aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.t_, aten.resize_, aten.set_, aten.swapaxes_}


class Synchronised(RuntimeError):
    """An operation would have made the host wait for the card, or copied from the host in the way of a frame."""


class Card(Tensor):
    """A tensor of the card: the host's tensor ``raw``, which holds the values, behind the face of a device."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "Card":
        """Wrap ``raw``; views of one storage stay views of one storage."""
        # Under inference mode too a face is an ordinary tensor: a view of an ordinary one cannot be anything else.
        with torch.inference_mode(False):
            face = torch.Tensor._make_wrapper_subclass(
                cls,
                raw.shape,
                strides=raw.stride(),
                storage_offset=raw.storage_offset(),
                dtype=raw.dtype,
                device="card:0",
            )
        face.raw = raw
        return face

    def __repr__(self, *, tensor_contents: object = None) -> str:
        """Show the values, which a test may look at."""
        return f"Card({self.raw})"

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as CUDA does; ``force`` copies to the host, which waits."""
        if not force:
            raise Synchronised("numpy")
        return self.cpu().numpy()

    def tolist(self) -> Any:
        """Read all values, which waits."""
        _waits("tolist")
        return self.raw.tolist()

    def __format__(self, spec: str) -> str:
        """Read the value of a tensor of no dimension, which waits; show others."""
        return format(self.item() if self.ndim == 0 else repr(self), spec)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run ``func`` on what the tensors hold."""
        return _run(func, args, kwargs or {})


class Simulation:
    """The card while ``with card()`` lasts."""

    def __init__(self) -> None:
        self.device = torch.device("card:0")
        self.trusted: tuple[str, ...] = ()
        self._free = threading.local()

    def put(self, host: Tensor) -> Tensor:
        """Copy a tensor of the host to the card; always allowed."""
        return Card(host.detach().clone())

    def get(self, tensor: Tensor) -> Tensor:
        """Copy a tensor of the card to the host; always allowed, and the tensor may be the host's already."""
        return (tensor.raw if isinstance(tensor, Card) else tensor).detach().clone()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let this thread wait for the card and copy to it meanwhile: loading, warming up, reading results."""
        before = getattr(self._free, "yes", False)
        self._free.yes = True
        try:
            yield
        finally:
            self._free.yes = before

    def trust(self, *names: str) -> None:
        """Let every thread whose name contains one of ``names`` wait and copy: those that exist for transfers."""
        self.trusted = names

    def is_free(self) -> bool:
        """Say whether the calling thread may wait and copy now."""
        return getattr(self._free, "yes", False) or any(
            name in threading.current_thread().name for name in self.trusted
        )


_active: Simulation | None = None


@contextmanager
def card() -> Iterator[Simulation]:
    """Simulate a card and check what is done with it, in all threads, until the block ends.

    Example::

        with card() as sim:
            x = sim.put(torch.rand(4))
            y = x * 2  # runs
            float(y.sum())  # raises Synchronised
    """
    global _active
    _register()
    assert _active is None, "one simulated card at a time"
    _active = Simulation()
    try:
        yield _active
    finally:
        _active = None


@functools.cache
def _register() -> tuple[torch.library.Library, ...]:
    """Give PyTorch the backend, once per process: what names the device but takes no tensor of it arrives here."""
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    class Backend(_DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:  # what torch.autocast asks
            return [torch.float16, torch.bfloat16]

    _setup_privateuseone_for_python_backend("card", backend_module=Backend())
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    # torch.tensor(..., device=...) makes its tensor with Python shut out, where a fallback cannot go.
    made = torch.library.Library("aten", "IMPL")
    made.impl("empty_strided", functools.partial(_run_as, aten.empty_strided.default), "PrivateUse1")
    made.impl("copy_", functools.partial(_run_as, aten.copy_.default), "PrivateUse1")
    return everything, made


def _run_as(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(func, args, kwargs)


def _waits(what: str) -> None:
    """Raise unless the calling thread may wait for the card."""
    if _active is not None and not _active.is_free():
        raise Synchronised(what)


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """Run one operation on the tensors behind those of the card, and wrap what comes out."""
    flat = list(_leaves((args, kwargs)))
    cards = [x for x in flat if isinstance(x, Card)]
    packet = func.overloadpacket
    if packet in RESHAPES_IN_PLACE and cards:
        raise NotImplementedError(f"the simulated card cannot do {func}")
    if packet in WAITS or _depends_on_values(packet, args, kwargs):
        _waits(str(func))
    elif packet not in WHOLE and _is_composite(func):
        return func._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *args, **kwargs)
    targets = [x for x in flat if isinstance(x, torch.device)]
    on_card = targets[0].type == "card" if targets else bool(cards)
    _check_transfers(func, flat, cards, on_card)
    if on_card and any(isinstance(x, torch.Generator) for x in flat):
        raise RuntimeError("a generator of the host cannot draw on the card")
    host_args, host_kwargs = _mapped(_on_host, (args, kwargs))
    if host_kwargs.get("pin_memory"):
        host_kwargs["pin_memory"] = False
    result = func(*host_args, **host_kwargs)
    known = {id(x.raw): x for x in cards}
    moved = packet is aten._to_copy

    def wrap(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if id(x) in known and not moved:
            return known[id(x)]
        return Card(x) if on_card else x

    return _mapped(wrap, result)


def _on_host(x: Any) -> Any:
    return x.raw if isinstance(x, Card) else torch.device("cpu") if isinstance(x, torch.device) else x


def _leaves(x: Any) -> Iterator[Any]:
    """Everything in nested tuples, lists and dictionaries; torch's own trees take ten times as long for that."""
    if isinstance(x, list | tuple):
        for one in x:
            yield from _leaves(one)
    elif isinstance(x, dict):
        for one in x.values():
            yield from _leaves(one)
    else:
        yield x


def _mapped(function: Any, x: Any) -> Any:
    """The same with every leaf replaced; results with names, such as that of ``sort``, keep them."""
    if isinstance(x, list | tuple):
        return type(x)([_mapped(function, one) for one in x])
    if isinstance(x, dict):
        return {name: _mapped(function, one) for name, one in x.items()}
    return function(x)


@functools.cache
def _is_composite(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _depends_on_values(packet: Any, args: tuple, kwargs: dict) -> bool:
    """Say whether an operation has to look at values of the card to know the size of its result."""
    if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index):
        masks = [i for i in args[1] if isinstance(i, Card) and i.dtype in (torch.bool, torch.uint8)]
        return bool(masks)
    if packet is aten.repeat_interleave:
        counts = args[-1]  # a number for all, or one for each
        return kwargs.get("output_size") is None and isinstance(counts, Card)
    return False


def _check_transfers(func: Any, flat: list, cards: list[Card], on_card: bool) -> None:
    """Raise on copies between host and card, and where tensors of both meet."""
    packet = func.overloadpacket
    hosts = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, Card)]
    if packet is aten._to_copy:
        if bool(cards) != on_card:
            _waits(f"{func} ({'copy to' if on_card else 'copy from'} the card)")
    elif packet in (aten.copy_, aten._copy_from, aten._copy_from_and_resize):
        if cards and hosts:
            _waits(f"{func} (copy between host and card)")
    elif packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_) and cards:
        if any(x.ndim for x in hosts):
            _waits(f"{func} (indices or values of the host)")
    elif cards and any(x.ndim for x in hosts):
        raise RuntimeError(f"{func}: tensors of the host and of the card meet")
