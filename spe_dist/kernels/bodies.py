"""The bodies of `span_pool` and `span_gelu_pool`: PyTorch, C++ on a CPU, CUDA. All compute what the definition says."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

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
_Extremes = Sequence[tuple[Tensor, Tensor]]


class Spans(NamedTuple):
    """Where to pool, and the sizes of the filters that slide over every span; as in span_pool.py."""

    starts: Tensor
    ends: Tensor
    kernel_sizes: Sequence[int]


class Body(ABC):
    """What computes the operators; shapes as in span_pool.py.

    GELU is the framework's unless a body knows better: on a CPU its error function is vectorised.
    """

    @abstractmethod
    def forward(self, taps: Tensor, spans: Spans) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both extremes and their windows."""

    @abstractmethod
    def backward(self, extremes: _Extremes, spans: Spans, num_words: int, dtype: torch.dtype) -> Tensor:
        """Gradient of the taps in their type, from gradient and windows of one or two extremes."""

    def gelu_forward(
        self, taps: Tensor, bias: Tensor, spans: Spans, *, for_backward: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The larger GELU; its slope and its window, both without rows if no backward pass follows."""
        return gelu_of_extremes(*self.forward(taps, spans), bias, for_backward=for_backward)

    def gelu_backward(
        self, grad: Tensor, slope: Tensor, at: Tensor, spans: Spans, num_words: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the taps, in their type, and of the bias, in that of `grad`."""
        before_gelu = grad * slope
        taps = self.backward([(before_gelu, at)], spans, num_words, dtype)
        return taps, before_gelu.sum(0).to(grad.dtype)


class ReferenceBody(Body):
    """The definition."""

    def forward(self, taps: Tensor, spans: Spans) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """On spans of up to 4, 16, 64, … words at a time, as the definition pads to the widest span of a call."""
        starts, ends, kernel_sizes = spans
        results = room_for_extremes(taps, spans)
        for result in results:
            result.zero_()
        widths, narrower = ends - starts, -1
        for widest in (4, 16, 64, int(widths.max()) if len(widths) else 0):
            rows = ((widths > narrower) & (widths <= widest)).nonzero().squeeze(1)
            if len(rows):
                found = span_pool_reference(taps, starts[rows], ends[rows], kernel_sizes)
                for result, of_rows in zip(results, found, strict=True):
                    result[rows] = of_rows.to(result.dtype)
            narrower = max(narrower, widest)
        return results

    def backward(self, extremes: _Extremes, spans: Spans, num_words: int, dtype: torch.dtype) -> Tensor:
        """As the definition, summed in the type of the gradients."""
        return span_pool_backward_reference(extremes, *spans, num_words).to(dtype)


class _Sizes(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_int64),
        ("spans", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("num_sizes", ctypes.c_int64),
        ("kernel_sizes", ctypes.POINTER(ctypes.c_int32)),
    )

    @classmethod
    def of(cls, taps: Tensor, spans: Spans) -> _Sizes:
        """Sizes of taps, or of their gradient, and spans."""
        sizes = spans.kernel_sizes
        on_host = (ctypes.c_int32 * len(sizes))(*sizes)
        return cls(len(taps), len(spans.starts), taps.shape[1] // sum(sizes), len(sizes), on_host)


class CppBody(Body):
    """`span_pool` of a shared library, on the CPU.

    Args:
        path: path of the library.
    """

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self._forward, self._backward = self.library.span_pool_forward, self.library.span_pool_backward

    def forward(self, taps: Tensor, spans: Spans) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `span_pool_reference`.

        Raises:
            ValueError: a span ends before it starts or is not among the words.
        """
        taps, bounds = taps.contiguous(), _bounds(spans)
        self._check_range(*bounds, len(taps))
        results = room_for_extremes(taps, spans)
        sizes, kind, threads = _Sizes.of(taps, spans), _TYPES[taps.dtype], torch.get_num_threads()
        _call(self._forward, sizes, kind, taps, *bounds, *results, threads)
        return results

    def backward(self, extremes: _Extremes, spans: Spans, num_words: int, dtype: torch.dtype) -> Tensor:
        """As `span_pool_backward_reference`."""
        template = extremes[0][0]
        grad_taps = template.new_zeros(shape_of_taps(template, spans.kernel_sizes, num_words))
        tensors = (*_pairs(extremes), *_bounds(spans), grad_taps)
        _call(self._backward, _Sizes.of(grad_taps, spans), _TYPES[template.dtype], *tensors, torch.get_num_threads())
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
        path: path of the library.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._forward, self._backward = library.span_pool_forward_cuda, library.span_pool_backward_cuda
        self._gelu_forward = library.span_gelu_pool_forward_cuda
        self._gelu_backward = library.span_gelu_pool_backward_cuda

    def forward(self, taps: Tensor, spans: Spans) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `span_pool_reference`."""
        taps, results = taps.contiguous(), room_for_extremes(taps, spans)
        kinds = (_TYPES[taps.dtype], results[2].dtype == torch.int16)
        self._launch(self._forward, _Sizes.of(taps, spans), *kinds, taps, *_bounds(spans), *results)
        return results

    def backward(self, extremes: _Extremes, spans: Spans, num_words: int, dtype: torch.dtype) -> Tensor:
        """As `span_pool_backward_reference`; every gradient is written once, in its type."""
        template, at = extremes[0]
        grad_taps = template.new_empty(shape_of_taps(template, spans.kernel_sizes, num_words), dtype=dtype)
        kinds = (_TYPES[dtype], at.dtype == torch.int16)
        tensors = (*_pairs(extremes), *_bounds(spans), _room_for_chunks(spans), grad_taps)
        self._launch(self._backward, _Sizes.of(grad_taps, spans), *kinds, *tensors)
        return grad_taps

    def gelu_forward(
        self, taps: Tensor, bias: Tensor, spans: Spans, *, for_backward: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `gelu_of_extremes`, in one kernel."""
        taps, bias = taps.contiguous(), bias.contiguous()
        results = room_for_gelu(taps, bias, spans, for_backward=for_backward)
        kinds = (_TYPES[taps.dtype], _TYPES[bias.dtype], results[2].dtype == torch.int16)
        self._launch(self._gelu_forward, _Sizes.of(taps, spans), *kinds, taps, bias, *_bounds(spans), *results)
        return results

    def gelu_backward(
        self, grad: Tensor, slope: Tensor, at: Tensor, spans: Spans, num_words: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The taps' in one kernel; the bias's is a sum over spans, which the framework does in a fixed order."""
        grad = grad.contiguous()
        grad_taps = grad.new_empty(shape_of_taps(grad, spans.kernel_sizes, num_words), dtype=dtype)
        kinds = (_TYPES[dtype], _TYPES[grad.dtype], at.dtype == torch.int16)
        tensors = (grad, slope, at, *_bounds(spans), _room_for_chunks(spans), grad_taps)
        self._launch(self._gelu_backward, _Sizes.of(grad_taps, spans), *kinds, *tensors)
        return grad_taps, (grad * slope).sum(0).to(grad.dtype)

    def _launch(self, function: Callable[..., int], sizes: _Sizes, *arguments: Tensor | int | None) -> None:
        device = next(one.device for one in arguments if isinstance(one, Tensor))
        with torch.cuda.device(device):  # kernels are launched on the thread's device, whatever the stream's is
            stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
            _call(function, sizes, *arguments, stream)


def _call(function: Callable[..., int], sizes: _Sizes, *arguments: Tensor | ctypes.c_void_p | int | None) -> None:
    plain = (ctypes.c_void_p(one.data_ptr()) if isinstance(one, Tensor) else one for one in arguments)
    status = function(ctypes.byref(sizes), *plain)
    if status:
        of = f"{sizes.words} words, {sizes.spans} spans, kernel sizes {sizes.kernel_sizes[: sizes.num_sizes]}"
        raise RuntimeError(f"span_pool failed with status {status} for {of}")


def room_for_extremes(taps: Tensor, spans: Spans) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Empty tensors for both extremes and for the places of their windows."""
    kernel_sizes = spans.kernel_sizes
    shape = (spans.starts.shape[0], taps.shape[1] // sum(kernel_sizes) * len(kernel_sizes))
    values, places = value_dtype(taps.dtype), place_dtype(taps, kernel_sizes)
    lowest, highest = (taps.new_empty(shape, dtype=values) for _ in range(2))
    lowest_at, highest_at = (taps.new_empty(shape, dtype=places) for _ in range(2))
    return lowest, highest, lowest_at, highest_at


def room_for_gelu(taps: Tensor, bias: Tensor, spans: Spans, *, for_backward: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Empty tensors for the larger value, its slope and its window; without backward pass the last two have no rows."""
    rows, columns = spans.starts.shape[0], bias.shape[0]
    kept = (rows if for_backward else 0, columns)
    slope = taps.new_empty(kept, dtype=value_dtype(taps.dtype))
    at = taps.new_empty(kept, dtype=place_dtype(taps, spans.kernel_sizes))
    return bias.new_empty((rows, columns)), slope, at


def shape_of_taps(grad: Tensor, kernel_sizes: Sequence[int], num_words: int) -> tuple[int, int]:
    """Shape of the taps, from the gradient of the pooled values."""
    return num_words, grad.shape[1] // len(kernel_sizes) * sum(kernel_sizes)


def _pairs(extremes: _Extremes) -> list[Tensor | None]:
    """Two gradients and two places; nothing in the room of the second, if there is one only."""
    missing = [None] * (2 - len(extremes))
    return [*(grad.contiguous() for grad, _ in extremes), *missing, *(at for _, at in extremes), *missing]


def _room_for_chunks(spans: Spans) -> Tensor:
    return spans.starts.new_empty((-(-len(spans.starts) // SPANS_PER_CHUNK), 2), dtype=torch.int32)


def _bounds(spans: Spans) -> tuple[Tensor, Tensor]:
    return spans.starts.to(torch.int64).contiguous(), spans.ends.to(torch.int64).contiguous()
