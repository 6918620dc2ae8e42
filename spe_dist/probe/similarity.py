"""How near each candidate is to its question, in the space of contrast and by plain sentence vectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from data_shards.ragged import IntArray
from spe_dist.batches.batch import PackedSequences
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.spe.views import PackedViews
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.probe.questions import Questions, batches_of

_QUESTIONS_AT_A_TIME = 8
_SECONDS_OF_SILENCE = 10.0
Read = TypeVar("Read", PackedViews, PackedSequences)
Note = Callable[[int], None]
"""Called now and then with the number of questions answered."""


def by_contrast(model: SpanPairModel, questions: Questions, note: Note) -> Tensor:
    """Context view against pair views as pre-training compares them, [Q, N]."""
    device = model.sentence_encoder.word_embeddings.weight.device

    def vectors(views: PackedViews) -> Tensor:
        return contrast_vectors(model, views.to(device))

    return _similarity(len(questions), questions.context_views, questions.pair_views, vectors, device, note)


def by_sentence_vectors(encoder: SentenceEncoder, questions: Questions, note: Note) -> Tensor:
    """Cosine of mean states: the sentence without its pair, as plain text, against the words of each pair, [Q, N]."""
    device = encoder.word_embeddings.weight.device

    def vectors(texts: PackedSequences) -> Tensor:
        return nn.functional.normalize(_mean_states(encoder, texts.to(device)), dim=1)

    return _similarity(len(questions), questions.context_texts, questions.pair_texts, vectors, device, note)


def contrast_vectors(model: SpanPairModel, views: PackedViews) -> Tensor:
    """Vectors of the views' span pairs in the space of contrast, [S, D]."""
    assert model.span_encoder is not None and model.pair_encoder is not None
    states = model.sentence_encoder(views.packed)
    starts, ends = views.word_spans.unbind(2)
    spans = model.span_encoder(states[views.word_pieces], starts.flatten(), ends.flatten()).unflatten(0, starts.shape)
    sentences = states[views.packed.sequence_starts[:-1]]
    return model.project(model.pair_encoder(spans, sentences, empty=starts == ends))


def _mean_states(encoder: SentenceEncoder, packed: PackedSequences) -> Tensor:
    """Mean state of each sequence, [CLS] and [SEP] included, [S, H]."""
    states, lengths = encoder(packed).float(), packed.sequence_starts.diff().long()
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), lengths)
    return states.new_zeros(len(lengths), states.shape[1]).index_add_(0, sequence, states) / lengths[:, None]


@torch.no_grad()
def _similarity(
    questions: int,
    asked_in: Callable[[IntArray], Read],
    answered_in: Callable[[IntArray], Read],
    vectors: Callable[[Read], Tensor],
    device: torch.device,
    note: Note,
) -> Tensor:
    parts, noted = [], time.monotonic()
    for rows in batches_of(questions, _QUESTIONS_AT_A_TIME):
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
            asked, answered = vectors(asked_in(rows)).float(), vectors(answered_in(rows)).float()
        candidates = answered.unflatten(0, (len(rows), -1))
        parts.append((candidates @ asked[:, :, None]).squeeze(2).cpu())
        if time.monotonic() - noted > _SECONDS_OF_SILENCE:
            note(int(rows[-1]) + 1)
            noted = time.monotonic()
    return torch.cat(parts)
