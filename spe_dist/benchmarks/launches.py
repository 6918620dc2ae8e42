"""What one step launches on a GPU, counted without one: every operator of a real step, by part of the step.

How many there are does not depend on any width, so a narrow copy of the run takes its steps on the CPU, in the
ways of a GPU (attention of packed sequences, dropout in one operator) and with its layers, its objectives, its ZeRO
stage and its number of forwards. An operator counts as one launch, a grouped one as many as torch makes of tensors of
the run's real sizes. Kernels that an operator starts beside its main one are not seen: read the sums as lower bounds
that tell which change saves what.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spe_dist.config import Config
from spe_dist.methods.registry import spec_of
from spe_dist.models.packed_attention import varlen_layout
from spe_dist.models.saved_encoder import resolve_encoder_config
from spe_dist.train.activations import as_on_a_gpu
from spe_dist.train.session import Session, open_session

_NOTHING = {  # operators that are no views and run nothing on the device
    "aten.detach", "aten.empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty", "aten.new_empty_strided",
    "aten.set_", "aten.lift_fresh", "aten.record_stream", "aten._local_scalar_dense", "aten._unsafe_view",
    "aten.resize_", "aten.is_same_size",
}  # fmt: skip
_NARROW: dict[str, dict[str, Any]] = {
    "encoder": {"name_or_path": None, "hidden_size": 64, "heads": 2, "intermediate_size": 64},
    "span_encoder": {"channels": 4, "size": 16},
    "entity_encoder": {"channels": 4, "size": 16},
    "context_encoder": {"channels": 4, "size": 16},
    "pair_encoder": {"attention_size": 8, "position_size": 4, "size": 16},
    "tbo": {"offset_size": 8},
    "cspo": {"queue_size": 1024},
}
# torch's multi_tensor_apply, by tensors that an element is made of: the most tensors of a launch; and of all of them.
_TENSORS_OF_A_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_BLOCKS_OF_A_LAUNCH, _ELEMENTS_OF_A_BLOCK = 320, 65_536


@dataclass(frozen=True)
class PartLaunches:
    """Launches of one part of a step."""

    part: str
    launches: int
    operators: dict[str, int]
    """Calls of each operator; a grouped one is one call."""


def count_launches(config: Config) -> list[PartLaunches]:
    """Count a run's second step on one rank.

    Args:
        config: the run; its shards are read.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        narrow = _narrow(replace(config, run=replace(config.run, folder=folder)))
        session = stack.enter_context(open_session(narrow))
        session.method.prefill(None)
        scale = _parameters(config, session) / _number(session.engine.module)
        counted = _Counted(scale)
        with as_on_a_gpu(varlen_layout), ExitStack() as second:
            for step in range(2):
                batches = session.steps[step]
                if not isinstance(batches, list):
                    raise batches
                session.take_step(batches, 0.0)
                if step == 0:  # all that a step finds is there now
                    second.enter_context(_parts(session, counted))
    return [
        PartLaunches(part, sum(launches.values()), dict(counted.operators[part].most_common()))
        for part, launches in counted.launches.items()
    ]


class _Counted(TorchDispatchMode):
    """Launches and calls by operator, of the part that is named at the time.

    Args:
        scale: elements of a real tensor to one of the narrow run's.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.part = scale, ""
        self.launches: dict[str, Counter[str]] = {}
        self.operators: dict[str, Counter[str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        if not func.is_view and name not in _NOTHING:
            lists = [each for each in args if isinstance(each, (list, tuple)) and each and isinstance(each[0], Tensor)]
            grouped = name.startswith(("aten._foreach", "aten._fused"))
            launches = grouped_launches([t.numel() * self.scale for t in lists[0]], len(lists)) if grouped else 1
            self.launches.setdefault(self.part, Counter())[name] += launches
            self.operators.setdefault(self.part, Counter())[name] += 1
        return func(*args, **(kwargs or {}))


def grouped_launches(sizes: Iterable[float], lists: int) -> int:
    """Kernels that torch starts for a `_foreach` or fused operator.

    Args:
        sizes: elements of each tensor.
        lists: tensors that an element of the result is made of, the result's included.
    """
    launches = tensors = blocks = 0
    for size in sizes:
        tensors += 1
        left = -(-int(size) // _ELEMENTS_OF_A_BLOCK)
        while left:
            taken = min(left, _BLOCKS_OF_A_LAUNCH - blocks)
            left, blocks = left - taken, blocks + taken
            if blocks == _BLOCKS_OF_A_LAUNCH:
                launches, blocks, tensors = launches + 1, 0, 1 if left else 0
        if tensors == _TENSORS_OF_A_LAUNCH[min(lists, 5)]:
            launches, blocks, tensors = launches + 1, 0, 0
    return launches + (1 if blocks else 0)


def _narrow(config: Config) -> Config:
    """The same run with small sizes, of as few records as a step can have."""
    changes: dict[str, Any] = {}
    for section, sizes in _NARROW.items():
        whole = getattr(config, section, None)
        if whole is not None:
            known = {field.name for field in fields(whole)}
            changes[section] = replace(whole, **{name: size for name, size in sizes.items() if name in known})
    batch = config.batch
    forwards = -(-batch.lanes // batch.lanes_per_forward)
    changes["batch"] = replace(batch, lanes=forwards, lanes_per_forward=1)
    return replace(config, **changes)


def _parameters(config: Config, session: Session) -> int:
    """Number of parameters of the model of the unchanged run."""
    manifest = session.steps.reader.manifest
    encoder = resolve_encoder_config(config.encoder, vocab_size=manifest.tokenizer.vocab_size)
    return _number(spec_of(config).model_without_weights(config, encoder, manifest))


def _number(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _parts(session: Session, counted: _Counted) -> Iterator[None]:
    """Name the part of the step while it runs."""
    method, engine = session.method, session.engine
    averages = getattr(method, "momentum_encoder", None)
    with ExitStack() as stack:
        for owner, name, part in (
            (averages, "encode", "key pass"),
            (engine, "forward", "forward pass"),
            (engine, "backward", "backward pass, gradients in fp32"),
            (engine, "step", "norm, clipping, Adam"),
            (averages, "update", "average of the key encoder"),
            (method, "after_step", "queue"),
        ):
            if owner is not None:
                stack.enter_context(patch.object(owner, name, _named(getattr(owner, name), part, counted)))
        counted.part = "losses and counts"
        stack.enter_context(counted)
        yield


def _named(call: Callable[..., Any], part: str, counted: _Counted) -> Callable[..., Any]:
    def named(*args: Any, **kwargs: Any) -> Any:
        before, counted.part = counted.part, part
        try:
            return call(*args, **kwargs)
        finally:
            counted.part = before

    return named
