"""The bodies of `span_pool` and `span_gelu_pool`: PyTorch, C++ on a CPU, CUDA. All compute what the definition says."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spe_dist.kernels.span_pool_reference import (
    gelu_of_extremes,
    place_dtype,
    span_pool_backward_reference,
    span_pool_reference,
    value_dtype,
)

_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
SPANS_PER_CHUNK = 256  # of the CUDA kernel, which writes two bounds of each


class Body(ABC):
    """What computes the operators; shapes as in span_pool.py.

    GELU is the framework's unless a body knows better: on a CPU its error function is vectorised.
    """

    @abstractmethod
    def forward(
        self, taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both extremes and their windows."""

    @abstractmethod
    def backward(
        self,
        extremes: Sequence[tuple[Tensor, Tensor]],
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """Gradient of the taps in their type, from gradient and windows of one or two extremes."""

    def gelu_forward(
        self,
        taps: Tensor,
        bias: Tensor,
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        *,
        for_backward: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The larger GELU; its slope and its window, both without rows if no backward pass follows."""
        extremes = self.forward(taps, starts, ends, kernel_sizes)
        return gelu_of_extremes(*extremes, bias, for_backward=for_backward)

    def gelu_backward(
        self,
        grad: Tensor,
        slope: Tensor,
        at: Tensor,
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the taps, in their type, and of the bias, in that of `grad`."""
        before_gelu = grad * slope
        taps = self.backward([(before_gelu, at)], starts, ends, kernel_sizes, num_words, dtype)
        return taps, before_gelu.sum(0).to(grad.dtype)


class ReferenceBody(Body):
    """The definition."""

    def forward(
        self, taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """On spans of up to 4, 16, 64, … words at a time, as the definition pads to the widest span of a call."""
        channels = taps.shape[1] // sum(kernel_sizes) * len(kernel_sizes)
        values = taps.new_zeros((2, len(starts), channels), dtype=value_dtype(taps.dtype))
        places = taps.new_zeros((2, len(starts), channels), dtype=place_dtype(taps, kernel_sizes))
        widths, narrower = ends - starts, -1
        for widest in (4, 16, 64, int(widths.max()) if len(widths) else 0):
            rows = ((widths > narrower) & (widths <= widest)).nonzero().squeeze(1)
            if len(rows):
                lowest, highest, *both_at = span_pool_reference(taps, starts[rows], ends[rows], kernel_sizes)
                values[0, rows], values[1, rows] = lowest, highest
                places[0, rows], places[1, rows] = (at.to(places.dtype) for at in both_at)
            narrower = max(narrower, widest)
        return values[0].clone(), values[1].clone(), places[0].clone(), places[1].clone()

    def backward(
        self,
        extremes: Sequence[tuple[Tensor, Tensor]],
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """As the definition, summed in the type of the gradients."""
        return span_pool_backward_reference(extremes, starts, ends, kernel_sizes, num_words).to(dtype)


class _Sizes(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_int64),
        ("spans", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("num_sizes", ctypes.c_int64),
        ("kernel_sizes", ctypes.POINTER(ctypes.c_int32)),
    )

    @classmethod
    def of(cls, words: int, spans: int, channels: int, kernel_sizes: Sequence[int]) -> _Sizes:
        on_host = (ctypes.c_int32 * len(kernel_sizes))(*kernel_sizes)
        return cls(words, spans, channels, len(kernel_sizes), on_host)


class CppBody(Body):
    """`span_pool` of a shared library, on the CPU.

    Args:
        path: of the library.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._forward, self._backward = library.span_pool_forward, library.span_pool_backward

    def forward(
        self, taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `span_pool_reference`.

        Raises:
            ValueError: a span ends before it starts or is not among the words.
        """
        taps, starts, ends = taps.contiguous(), _bounds(starts), _bounds(ends)
        self._check_range(starts, ends, len(taps))
        channels = taps.shape[1] // sum(kernel_sizes)
        results = _extremes_of(taps, len(starts), kernel_sizes)
        sizes = _Sizes.of(len(taps), len(starts), channels, kernel_sizes)
        _call(self._forward, sizes, _TYPES[taps.dtype], taps, starts, ends, *results, torch.get_num_threads())
        return results

    def backward(
        self,
        extremes: Sequence[tuple[Tensor, Tensor]],
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """As `span_pool_backward_reference`."""
        template = extremes[0][0]
        channels = template.shape[1] // len(kernel_sizes)
        grad_taps = template.new_zeros((num_words, channels * sum(kernel_sizes)))
        grads, places = _pairs(extremes)
        sizes = _Sizes.of(num_words, len(starts), channels, kernel_sizes)
        spans = (_bounds(starts), _bounds(ends))
        kind, threads = _TYPES[template.dtype], torch.get_num_threads()
        _call(self._backward, sizes, kind, *grads, *places, *spans, grad_taps, threads)
        return grad_taps.to(dtype)

    def _check_range(self, starts: Tensor, ends: Tensor, words: int) -> None:
        wrong = (starts < 0) | (starts > ends) | (ends > words)
        if wrong.any():
            span = int(wrong.nonzero()[0])
            raise ValueError(f"span {span} is [{int(starts[span])}, {int(ends[span])}), there are {words} words")


class CudaBody(Body):
    """Both operators of a shared library, on the GPU of their tensors and its current stream; nothing waits.

    The kernel looks itself whether spans are among the words, and traps: asking it would make the step wait.

    Args:
        path: of the library.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._forward, self._backward = library.span_pool_forward_cuda, library.span_pool_backward_cuda
        self._gelu_forward = library.span_gelu_pool_forward_cuda
        self._gelu_backward = library.span_gelu_pool_backward_cuda

    def forward(
        self, taps: Tensor, starts: Tensor, ends: Tensor, kernel_sizes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `span_pool_reference`."""
        taps, spans = taps.contiguous(), (_bounds(starts), _bounds(ends))
        results = _extremes_of(taps, len(starts), kernel_sizes)
        sizes = _Sizes.of(len(taps), len(starts), taps.shape[1] // sum(kernel_sizes), kernel_sizes)
        kinds = (_TYPES[taps.dtype], results[2].dtype == torch.int16)
        self._launch(taps.device, self._forward, sizes, *kinds, taps, *spans, *results)
        return results

    def backward(
        self,
        extremes: Sequence[tuple[Tensor, Tensor]],
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """As `span_pool_backward_reference`; every gradient is written once, in its type."""
        template = extremes[0][0]
        channels = template.shape[1] // len(kernel_sizes)
        grad_taps = template.new_empty((num_words, channels * sum(kernel_sizes)), dtype=dtype)
        grads, places = _pairs(extremes)
        sizes = _Sizes.of(num_words, len(starts), channels, kernel_sizes)
        kinds = (_TYPES[dtype], extremes[0][1].dtype == torch.int16)
        spans = (_bounds(starts), _bounds(ends))
        tensors = (*grads, *places, *spans, _room_for_chunks(starts), grad_taps)
        self._launch(template.device, self._backward, sizes, *kinds, *tensors)
        return grad_taps

    def gelu_forward(
        self,
        taps: Tensor,
        bias: Tensor,
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        *,
        for_backward: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `gelu_of_extremes`, in one kernel."""
        taps, bias, spans = taps.contiguous(), bias.contiguous(), (_bounds(starts), _bounds(ends))
        kept, places = (len(starts) if for_backward else 0, len(bias)), place_dtype(taps, kernel_sizes)
        pooled = bias.new_empty((len(starts), len(bias)))
        slope, at = taps.new_empty(kept, dtype=value_dtype(taps.dtype)), taps.new_empty(kept, dtype=places)
        sizes = _Sizes.of(len(taps), len(starts), taps.shape[1] // sum(kernel_sizes), kernel_sizes)
        kinds = (_TYPES[taps.dtype], _TYPES[bias.dtype], places == torch.int16)
        self._launch(taps.device, self._gelu_forward, sizes, *kinds, taps, bias, *spans, pooled, slope, at)
        return pooled, slope, at

    def gelu_backward(
        self,
        grad: Tensor,
        slope: Tensor,
        at: Tensor,
        starts: Tensor,
        ends: Tensor,
        kernel_sizes: Sequence[int],
        num_words: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The taps' in one kernel; the bias's is a sum over spans, which the framework does in a fixed order."""
        grad, channels = grad.contiguous(), grad.shape[1] // len(kernel_sizes)
        grad_taps = grad.new_empty((num_words, channels * sum(kernel_sizes)), dtype=dtype)
        sizes = _Sizes.of(num_words, len(starts), channels, kernel_sizes)
        kinds = (_TYPES[dtype], _TYPES[grad.dtype], at.dtype == torch.int16)
        tensors = (grad, slope, at, _bounds(starts), _bounds(ends), _room_for_chunks(starts), grad_taps)
        self._launch(grad.device, self._gelu_backward, sizes, *kinds, *tensors)
        return grad_taps, (grad * slope).sum(0).to(grad.dtype)

    def _launch(
        self, device: torch.device, function: Callable[..., int], sizes: _Sizes, *arguments: Tensor | int | None
    ) -> None:
        with torch.cuda.device(device):  # kernels are launched on the thread's device, whatever the stream's is
            stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
            _call(function, sizes, *arguments, stream)


def _call(function: Callable[..., int], sizes: _Sizes, *arguments: Tensor | ctypes.c_void_p | int | None) -> None:
    plain = (ctypes.c_void_p(one.data_ptr()) if isinstance(one, Tensor) else one for one in arguments)
    status = function(ctypes.byref(sizes), *plain)
    if status:
        of = f"{sizes.words} words, {sizes.spans} spans, kernel sizes {sizes.kernel_sizes[: sizes.num_sizes]}"
        raise RuntimeError(f"span_pool failed with status {status} for {of}")


def _extremes_of(taps: Tensor, spans: int, kernel_sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for both and for their windows."""
    shape = (spans, taps.shape[1] // sum(kernel_sizes) * len(kernel_sizes))
    values, places = value_dtype(taps.dtype), place_dtype(taps, kernel_sizes)
    lowest, highest = (taps.new_empty(shape, dtype=values) for _ in range(2))
    lowest_at, highest_at = (taps.new_empty(shape, dtype=places) for _ in range(2))
    return lowest, highest, lowest_at, highest_at


def _pairs(extremes: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Two gradients and two places; nothing in the room of the second, if there is one only."""
    both: list[tuple[Tensor | None, Tensor | None]] = [(grad.contiguous(), at) for grad, at in extremes]
    both += [(None, None)] * (2 - len(both))
    return [grad for grad, _ in both], [at for _, at in both]


def _room_for_chunks(starts: Tensor) -> Tensor:
    return starts.new_empty((-(-len(starts) // SPANS_PER_CHUNK), 2), dtype=torch.int32)


def _bounds(spans: Tensor) -> Tensor:
    return spans.to(torch.int64).contiguous()
