"""What a step computes, counted: a guard against losing speed that needs no clock."""

from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from spe_dist.kernels.bodies import CppBody
from spe_dist.moco.key_queue import Negatives
from spe_dist.models import sentence_encoder
from spe_dist.models.packed_attention import layout_of
from spe_dist.models.span_encoder import SpanEncoder
from spe_dist.train.session import Session
from tests.paper.tiny_spe import build_spe, forwards_of_step

MOST_OPERATORS = 535  # a forward of one layer (two groups in its attention), the key pass and the backward pass, on CPU
WAITING = {"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.unique"}


class Operators(TorchDispatchMode):
    """Every operator that ran and was no view, and the largest new tensor any of them made."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.names.append(str(func.overloadpacket))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.largest = max(self.largest, tensor.numel())
        return out


def step_of(spe):
    _, (batch, *_) = forwards_of_step(spe)
    return batch


def loss_of(spe, batch, negatives):
    keys = spe.momentum_encoder.encode(batch)
    losses, *_ = spe.model(batch, keys, negatives)
    return losses.sum()


def note_rows(seen, _, inputs, __):
    seen.append(inputs[0].shape[:-1].numel())


def rows_of_linears(module):
    """Rows that go through each linear layer of a module in its forwards, by name."""
    rows = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            part.register_forward_hook(partial(note_rows, rows.setdefault(name, [])))
    return rows


def test_no_padding_goes_through_a_linear_layer_and_each_encoder_makes_one_pass():
    spe, _ = build_spe()
    batch = step_of(spe)
    queries, keys = (rows_of_linears(encoder) for encoder in (spe.model, spe.momentum_encoder.encoder))
    loss_of(spe, batch, spe.queue.negatives()).backward()
    pieces, words = len(batch.packed.piece_ids), len(batch.word_pieces)
    assert words < pieces < batch.packed.longest * (len(batch.packed.sequence_starts) - 1)
    layers = {name: seen for name, seen in queries.items() if ".sentence_encoder." in name}
    assert len(layers) == 6  # query, key, value, output and two of the feed-forward part
    assert all(seen == [pieces] for seen in layers.values())
    assert queries["encoder.span_encoder.taps"] == keys["span_encoder.taps"] == [words]
    assert queries["tbo.decoder"] == [len(batch.tbo_targets)]  # logits over the vocabulary at hidden pieces only
    assert all(len(seen) == 1 for seen in (*queries.values(), *keys.values()))


def test_checkpointed_activations_run_every_layer_again_for_queries_and_not_for_keys():
    spe, _ = build_spe(compute={"checkpoint_activations": True})
    batch = step_of(spe)
    queries, keys = (rows_of_linears(encoder) for encoder in (spe.model, spe.momentum_encoder.encoder))
    loss_of(spe, batch, spe.queue.negatives()).backward()
    pieces = len(batch.packed.piece_ids)
    assert all(seen == [pieces] * 2 for name, seen in queries.items() if ".sentence_encoder." in name)
    assert all(len(seen) == 1 for seen in keys.values())


def test_a_step_runs_few_operators_and_waits_for_nothing():
    spe, _ = build_spe()
    batch, negatives = step_of(spe), spe.queue.negatives()
    with ExitStack() as stack:  # without what is not done on a GPU: the kernel checks ranges, attention needs no groups
        stack.enter_context(patch.object(CppBody, "_check_range"))
        stack.enter_context(patch.object(sentence_encoder, "layout_of", Mock(return_value=layout_of(batch.packed))))
        operators = stack.enter_context(Operators())
        loss_of(spe, batch, negatives).backward()
    assert not WAITING & set(operators.names)
    assert len(operators.names) < MOST_OPERATORS


def test_the_queue_is_neither_copied_nor_transposed():
    spe, _ = build_spe()
    batch = step_of(spe)
    full = Negatives(*torch.randn(2, 50_000, spe.model.encoder.key_size))
    with Operators() as operators:
        loss_of(spe, batch, full).backward()
    similarities = len(batch.record_ids) * 50_000
    assert similarities <= operators.largest < full.pair_keys.numel()


@pytest.mark.parametrize("spans", [1, 10, 100])
def test_convolutions_cost_the_same_for_any_number_of_spans(spans):
    encoder = SpanEncoder(8, kernel_sizes=(2, 3), channels=4, size=6, dropout=0.0)
    words = torch.randn(50, 8, requires_grad=True)
    starts = torch.randint(0, 30, (spans,))
    with FlopCounterMode(display=False) as counter:
        encoder(words, starts, starts + 20).sum().backward()
    (taps,) = (sum(flops.values()) for name, flops in counter.get_flop_counts().items() if name.endswith("taps"))
    assert taps == 3 * 2 * 50 * 8 * (2 + 3) * 4  # forward, and backward for words and filters


def test_keys_leave_before_the_last_backward_pass():
    calls = Mock()
    calls.method.forward.return_value = torch.ones(5), torch.ones(7)
    session = SimpleNamespace(
        method=calls.method, engine=calls.engine, metrics=calls.metrics, plan=None, _scale=torch.ones(5),
        world=SimpleNamespace(device=torch.device("cpu")),
    )  # fmt: skip
    for last in (False, True):
        Session._forward_backward(session, Mock(), last=last)
    names = [name for name, _, _ in calls.mock_calls if name in ("method.before_last_backward", "engine.backward")]
    assert names == ["engine.backward", "method.before_last_backward", "engine.backward"]
