"""What a forward pass keeps for its backward pass: counted on tensors without memory, in the ways of a GPU.

Attention is that of `varlen_attn`. `short_attention`, which a GPU may take for sentences, keeps the same (query, key,
value, result, logarithms of sums) and a few numbers for each tile. Encoders that cannot be packed are counted in one
padded group, an upper bound: a step has several. Attention on a CPU keeps its scores, which are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import PackedSequences
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.methods.registry import spec_of
from spe_dist.models import sentence_encoder
from spe_dist.models.packed_attention import VarlenLayout
from spe_dist.train.rehearsal import largest_forwards

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def activation_bytes(config: Config, reader: ShardReader, model: nn.Module, plan: BatchPlan) -> int:
    """Bytes that the largest forward of a run keeps on a GPU; what its backward pass takes beside is not among them.

    Args:
        config: configuration of the run.
        reader: reader of its dataset.
        model: model of its method, on the meta device; it becomes one of the run's precision.
        plan: plan of the run.
    """
    spec = spec_of(config)
    collate, model = spec.build_collate(config, reader), model.to(_DTYPES[config.train.precision]).train()
    kept = []  # by the last rank, which has as many lanes as any
    for lanes, records in largest_forwards(plan, plan.world_size - 1, reader.manifest):
        if lanes:
            ids = np.zeros((len(lanes), plan.lane_size), dtype=np.int64)
            batch = collate(records, ids, 0, lanes).to(torch.device("meta"))
            kept.append(_kept_bytes(partial(spec.try_forward, config, model, batch), model))
    return max(kept)


def _kept_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes of all tensors that autograd saves in a function; each storage counts once, parameters do not count."""
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # keeps them, or their numbers would be given again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = tensor
        return tensor

    with as_on_a_gpu(_layout), saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _layout(packed: PackedSequences) -> VarlenLayout:
    return VarlenLayout(packed.sequence_starts, packed.longest)


@contextmanager
def as_on_a_gpu(layout_of: Callable[[PackedSequences], VarlenLayout]) -> Iterator[None]:
    """Attention of this layout, and dropout in one operator with a mask of a byte an element; both run on a CPU too."""

    def dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return torch.native_dropout(values, p, True)[0] if training and p else values

    def layout(packed: PackedSequences, *, one_by_one: bool) -> VarlenLayout:  # which is a matter of CPUs
        return layout_of(packed)

    with patch.object(sentence_encoder, "layout_of", layout), patch.object(nn.functional, "dropout", dropout):
        yield
