"""Query, key and value of a self-attention as one product, where attention takes them side by side (on GPUs).

The parameters stay what they are, under their names. Where their memory lies in this order (DeepSpeed puts a model's
matrices one after another; `lay_side_by_side` does so too), the joint matrix is a view; elsewhere it is put together in
every forward pass. On a CPU the three products stay: their gradient would be rounded differently.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spe_dist.models.packed_attention import VarlenLayout, attend_packed

_ALIGNED = 8  # elements: 16 bytes in bf16, what products of matrices like


def join_projections(model: nn.Module) -> None:
    """Let the self-attentions of a Hugging Face encoder of BERT's kind compute their projections together."""
    for module in model.modules():
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in ("query", "key", "value")):
            module.forward = MethodType(_self_attention, module)


def lay_side_by_side(module: nn.Module) -> None:
    """Move a module's parameters into one memory: all matrices in their order, then all vectors."""
    parameters = sorted(module.parameters(), key=lambda parameter: parameter.ndim < 2)
    sizes = [-(-parameter.numel() // _ALIGNED) * _ALIGNED for parameter in parameters]
    memory = parameters[0].new_zeros(sum(sizes))
    for parameter, place in zip(parameters, memory.split(sizes), strict=True):
        moved = place[: parameter.numel()].view(parameter.shape)
        parameter.data = moved.copy_(parameter.data)


def _self_attention(
    self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, *others: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    layout = kwargs.get("layout")
    if not isinstance(layout, VarlenLayout) or hasattr(self.query.weight, "ds_id"):  # that of ZeRO-3: gathered by layer
        return type(self).forward(self, hidden_states, attention_mask, *others, **kwargs)
    projections = (self.query, self.key, self.value)
    qkv = joint_linear(hidden_states[0], [p.weight for p in projections], [p.bias for p in projections])
    qkv = qkv.view(len(qkv), 3, self.num_attention_heads, -1)
    states = attend_packed(qkv, layout, scaling=self.scaling, last=kwargs.get("last"))
    return states.flatten(1)[None], None


def joint_linear(inputs: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Several linear layers of the same inputs [P, H], their results side by side."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(inputs.device.type):
        return nn.functional.linear(inputs, torch.cat(weights), torch.cat(biases))
    return _JointLinear.apply(inputs, len(weights), *weights, *biases)


class _JointLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layers: int, *parameters: Tensor) -> Tensor:
        weight, bias = _joined(parameters[:layers]), _joined(parameters[layers:])
        ctx.save_for_backward(inputs, weight)
        ctx.layers = layers
        return torch.addmm(bias, inputs, weight.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, _, of_weight, *_ = ctx.needs_input_grad
        into_inputs = grad @ weight if of_inputs else None
        if not of_weight:
            return into_inputs, None, *([None] * 2 * ctx.layers)
        return into_inputs, None, *(grad.T @ inputs).chunk(ctx.layers), *grad.sum(dim=0).chunk(ctx.layers)


def _joined(parameters: tuple[Tensor, ...]) -> Tensor:
    """Parameters of one shape as one, along the first dimension; without copying if they lie one after another."""
    first = parameters[0].detach()
    size = first.nbytes
    whole = all(
        each.is_contiguous() and each.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        for each in parameters
    )
    if whole and all(each.data_ptr() == first.data_ptr() + i * size for i, each in enumerate(parameters)):
        return first.as_strided((len(parameters) * first.shape[0], *first.shape[1:]), first.stride())
    return torch.cat([each.detach() for each in parameters])
