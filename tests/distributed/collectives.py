"""What is handed to the process group: every collective call of this process, whoever makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch.distributed as dist
from torch import Tensor

# Calls of a process group, and which argument is the whole tensor: what is summed, or what is gathered from all ranks.
_CALLS = {
    "allreduce": ("all-reduce", 0),
    "reduce": ("reduce", 0),
    "broadcast": ("broadcast", 0),
    "allgather": ("all-gather", 0),
    "_allgather_base": ("all-gather", 0),
    "all_gather_single": ("all-gather", 0),
    "reduce_scatter": ("reduce-scatter", 1),
    "_reduce_scatter_base": ("reduce-scatter", 1),
    "reduce_scatter_single": ("reduce-scatter", 1),
    "alltoall": ("all-to-all", 0),
    "alltoall_base": ("all-to-all", 0),
    "all_to_all_single": ("all-to-all", 0),
    "gather": ("gather", 0),
    "scatter": ("scatter", 1),
}


class Call(NamedTuple):
    """One call of a collective."""

    collective: str
    dtype: str
    size: int  # bytes of the whole tensor


@contextmanager
def recorded_collectives() -> Iterator[list[Call]]:
    """The calls made in the context, in order."""
    calls: list[Call] = []

    def watched(collective: str, whole: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(group: dist.ProcessGroup, *args: Any, **kwargs: Any) -> Any:
            tensors = list(_tensors(args[whole]))
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            calls.append(Call(collective, str(tensors[0].dtype).removeprefix("torch."), size))
            return function(group, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for name, (collective, whole) in _CALLS.items():
            function = getattr(dist.ProcessGroup, name, None)
            if function is not None:
                stack.enter_context(patch.object(dist.ProcessGroup, name, watched(collective, whole, function)))
        yield calls


def _tensors(argument: Any) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    else:
        for part in argument:
            yield from _tensors(part)
