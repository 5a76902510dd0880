"""Encoding pictures that lie in the memory of a card, without bringing them to main memory (NVENC).

Frames come with two planes that speak DLPack, laid out as NVENC reads them:

* Y ``(H, W)`` and CbCr ``(H / 2, W / 2, 2)``, parts of one allocation: CbCr begins where Y ends, rows are equally
  long. NVENC is told one address, so that planes elsewhere are brought to main memory first;
* uint8 (NV12) at 8 bit; uint16 with the value in the high bits (P010: value << 6) at 10 bit.

Their content must be complete when a frame is handed to the writer; or ``notes["ready"]`` holds something whose
``wait()`` waits for that, such as a mark of the engine. Planes in main memory are taken in the same layout.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext

from streamlight.errors import DeviceError, MediaError
from streamlight.media import codecs
from streamlight.media.cudadriver import CURRENT_CONTEXT, primary_context
from streamlight.media.encode import EncoderPlan, configure, quiet_libav
from streamlight.media.frame import Frame
from streamlight.media.surfaces import CARD_LAYOUTS

DLPACK_CUDA = 2
"""DLPack's number for CUDA memory."""

_TAKEN_AS = {"nv12": ("nv12", "yuv420p"), "p010le": ("p010le",)}


def is_semi_planar(planes: tuple[Any, ...]) -> bool:
    """Whether a frame's planes are Y and interleaved CbCr, as opposed to Y, Cb, Cr or Y alone."""
    return len(planes) == 2 and len(planes[1].shape) == 3


def in_cuda_memory(planes: tuple[Any, ...]) -> bool:
    """Whether semi-planar planes lie on a card."""
    return is_semi_planar(planes) and int(planes[0].__dlpack_device__()[0]) == DLPACK_CUDA


def device_layout(plan: EncoderPlan) -> str | None:
    """``"nv12"`` or ``"p010le"`` if the plan's encoder could take frames from a card unchanged, else None."""
    layout = CARD_LAYOUTS.get(plan.source_format)
    even = plan.width % 2 == 0 and plan.height % 2 == 0
    same = (plan.width, plan.height) == (plan.source_width, plan.source_height)
    span = plan.full_range == (plan.source_range == "full")
    if layout is None or codecs.family_of(plan.encoder) != "nvenc" or not (even and same and span):
        return None
    return layout if plan.pix_fmt in _TAKEN_AS[layout] else None


def device_refusal(plan: EncoderPlan, *, device: int = 0) -> str | None:
    """Why frames must come to main memory before they are encoded, in words; None if they need not.

    Tries the encoder with a picture on the card, once for each plan.

    Args:
        plan: Of the job.
        device: Number of the CUDA device that the frames lie on.
    """
    layout = device_layout(plan)
    if layout is not None:
        return _trial(dataclasses.replace(plan, losses=(), fallbacks=()), layout, device)
    if codecs.family_of(plan.encoder) != "nvenc":
        return f"{plan.encoder} encodes from main memory"
    size = f"{plan.source_width}x{plan.source_height}"
    return f"{plan.encoder} takes {size} {plan.source_format} only after it was converted to {plan.pix_fmt}"


def takes_device_frames(plan: EncoderPlan, *, device: int = 0) -> bool:
    """Whether a :class:`streamlight.media.segments.SegmentWriter` encodes frames on the card as they are.

    It takes them in any case; where this is False it brings each one to main memory first.
    """
    return device_refusal(plan, device=device) is None


@cache
def _trial(plan: EncoderPlan, layout: str, device: int) -> str | None:
    try:
        with quiet_libav(), primary_context(device):
            accel = HWAccel("cuda", str(device), is_hw_owned=True, options=CURRENT_CONTEXT)
            context: Any = av.CodecContext.create(plan.encoder, "w", hwaccel=accel)
            configure_device(context, plan, layout)
            context.open()
            blank = av.VideoFrame(plan.width, plan.height, layout)
            blank.pts, blank.time_base = 0, plan.time_base
            packets = [*context.encode(blank), *context.encode(None)]
    except (DeviceError, av.FFmpegError, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        text = str(getattr(error, "strerror", None) or error)
        return f"{plan.encoder} does not encode from CUDA device {device} ({text})"
    return None if packets else f"{plan.encoder} gives no packet for a picture on CUDA device {device}"


def configure_device(context: VideoCodecContext, plan: EncoderPlan, layout: str) -> None:
    """Set an unopened encoder context up as the plan says, for pictures on a card in ``layout``."""
    configure(context, plan)
    context.pix_fmt = "cuda"
    context.sw_format = layout


def is_one_piece(picture: av.VideoFrame) -> bool:
    """Whether an imported picture's CbCr lies where NVENC looks for it."""
    luma, chroma = picture.planes
    gap = chroma.buffer_ptr - luma.buffer_ptr
    return luma.line_size == chroma.line_size and gap == luma.line_size * picture.height


class DeviceImporter:
    """Makes pictures out of semi-planar planes, without copying. One per writer; not thread-safe.

    Keeps one CUDA context for all pictures: FFmpeg's pools belong to it.
    """

    def __init__(self, plan: EncoderPlan) -> None:
        self._layout = CARD_LAYOUTS.get(plan.source_format)
        self._format = plan.source_format
        self._contexts: dict[int, CudaContext] = {}

    def picture(self, frame: Frame) -> av.VideoFrame:
        """The frame's picture, in CUDA memory or in main memory like its planes.

        It holds the planes until the encoder is done with it.

        Raises:
            MediaError: The planes are not laid out as the module says.
            DeviceError: The card that they lie on does not open.
        """
        ready = frame.notes.pop("ready", None)
        if ready is not None:
            ready.wait()
        planes: tuple[Any, ...] = tuple(frame.planes)
        if self._layout is None:
            raise MediaError(f"frame {frame.index}: {self._format} cannot come as Y and interleaved CbCr")
        kind, index = (int(value) for value in planes[0].__dlpack_device__())
        try:
            if kind != DLPACK_CUDA:
                return av.VideoFrame.from_dlpack(planes, format=self._layout)
            with primary_context(index):  # FFmpeg looks for it when the first picture is made
                return av.VideoFrame.from_dlpack(planes, format=self._layout, cuda_context=self._context(index))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise MediaError(f"frame {frame.index}: its planes are not {self._layout} ({error})") from error

    def _context(self, index: int) -> CudaContext:
        if index not in self._contexts:
            self._contexts[index] = CudaContext(device_id=index, primary_ctx=False, current_ctx=True)
        return self._contexts[index]
