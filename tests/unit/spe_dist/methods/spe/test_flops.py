"""The formula against torch's own counter, on the model that trains."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spe_dist.batches.batch import SIZES
from spe_dist.methods.model_flops import encoder_flops
from spe_dist.methods.spe.config import COUNTED, TERMS
from spe_dist.methods.spe.flops import head_flops, span_flops
from spe_dist.methods.spe.method import SpeWithContrast
from spe_dist.methods.workload import Workload
from spe_dist.moco.key_queue import Negatives
from spe_dist.models.packed_attention import layout_of
from tests.paper.tiny_spe import LANE_SIZE, build_spe
from tests.unit.spe_dist.batches.sentences import flat, random_sentences, records_of

pytestmark = pytest.mark.any_version

ENCODERS = (
    {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24},
    {"layers": 3, "hidden_size": 24, "heads": 3, "intermediate_size": 40},
)
HEADS = {"span_encoder": {"channels": 5, "size": 14, "kernel_sizes": [2, 4]}, "pair_encoder": {"attention_size": 6}}


def work_of(batch, negatives):
    sizes = dict(zip(SIZES, batch.sizes.tolist(), strict=True))
    counts = dict(zip(TERMS, batch.counts.tolist(), strict=True))
    pieces, squared_lengths, _, words = batch.views.sizes.tolist()
    counts |= dict(zip(COUNTED, (len(batch.record_ids) * negatives, pieces, squared_lengths, words), strict=True))
    return Workload(counts=counts, forwards=1, **sizes)


def batch_of(spe, lanes=2, equal_lengths=True):
    """Sentences whose sequences are all as long as the longest, unless told otherwise."""
    drawn = random_sentences(400, seed=1, least=8, longest=16)
    lengths = [len(flat(sentence)) for sentence in drawn]
    common = max(set(lengths), key=lengths.count)
    kept = [s for s, n in zip(drawn, lengths, strict=True) if n == common or not equal_lengths][: lanes * LANE_SIZE]
    ids = np.arange(len(kept)).reshape(lanes, LANE_SIZE)
    batch = spe.collate(records_of(kept), ids, 0, range(lanes))
    assert (len(batch.packed.sequence_starts.diff().unique()) == 1) == equal_lengths
    return batch


def count(action):
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "sections",
    [
        {},
        HEADS,
        {"cspo": {"head": False}},
        {"cspo": {"weight": 0.0}},
        {"spo": {"weight": 0.0}},
        {"tbo": {"weight": 0.0}},
        {"cspo": {"weight": 0.0}, "spo": {"weight": 0.0}},
        {"spans": {"whole_sentences": True}},
        {"spans": {"whole_sentences": True}, "cspo": {"weight": 0.0}},
    ],
)
def test_forward_backward_and_key_pass_are_counted_to_the_flop(encoder, sections):
    spe, _ = build_spe(encoder=encoder, **sections)
    batch, filled = batch_of(spe), 7
    assert len(batch.packed.sequence_starts) - 1 == sequences_of_a_record(spe.config) * len(batch.record_ids)
    keys, negatives, counted = None, None, 0
    if isinstance(spe, SpeWithContrast):
        keys = spe.momentum_encoder.encode(batch)
        negatives = Negatives(torch.randn(filled, keys.shape[1]), torch.randn(filled, keys.shape[1]))
        counted = count(lambda: spe.momentum_encoder.encode(batch))
    result = []
    counted += count(lambda: result.append(spe.model(batch, keys, negatives)[0].sum()))
    counted += count(result[0].backward)
    assert spe.model_flops(work_of(batch, filled)) == counted


def sequences_of_a_record(config):
    if not config.spans.whole_sentences:
        return 2
    return 3 if config.cspo.weight else 1


def forward_parts(spe, batch):
    config, encoder, workload = spe.config, spe.encoder_config, work_of(batch, 0)
    return (
        encoder_flops(encoder, workload)
        | span_flops(config, encoder, workload)
        | {"heads": head_flops(config, encoder, workload)}
    )


def test_each_part_is_counted_to_the_flop():
    spe, _ = build_spe(encoder=ENCODERS[1], **HEADS)
    batch = batch_of(spe)
    keys = spe.momentum_encoder.encode(batch)
    parts = forward_parts(spe, batch)
    with FlopCounterMode(display=False, depth=8) as counter:
        spe.model(batch, keys, spe.queue.negatives())
    counted = {name.removeprefix("SpeModel."): sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    assert counted["encoder.sentence_encoder"] == parts["encoder linears"] + parts["encoder attention"]
    assert counted["encoder.span_encoder.taps"] == parts["span taps"]
    assert counted["encoder.span_encoder.block"] == parts["span encoder"]
    assert counted["encoder.pair_encoder"] == parts["pair encoder"]
    assert counted["encoder.head"] == parts["projection head"]
    assert counted["tbo.decoder"] + counted["tbo.block"] + counted["spo"] == parts["heads"]


def test_of_unequal_sequences_only_attention_is_less_than_a_cpu_computes():
    spe, _ = build_spe(encoder=ENCODERS[0])
    batch = batch_of(spe, equal_lengths=False)
    keys = spe.momentum_encoder.encode(batch)
    groups = [(group.sequences, group.longest) for group in layout_of(batch.packed).groups]
    assert len(groups) == 2
    padding = sum(sequences * longest**2 for sequences, longest in groups) - int(batch.sizes[1])
    padded = count(lambda: spe.model(batch, keys, spe.queue.negatives()))
    assert padded - sum(forward_parts(spe, batch).values()) == 4 * 16 * padding > 0


def test_padding_saved_is_the_share_of_a_padded_batch():
    workload = Workload(counts={}, forwards=1, pieces=30, squared_lengths=0, padded_pieces=40, words=0)
    assert workload.padding_saved == 0.25
    assert Workload({}, 1, 0, 0, 0, 0).padding_saved == 0.0
