"""ATLOP's model (Zhou et al., AAAI 2021): a context for each pair of entities, and a threshold for each pair.

A mention is the state where it begins, an entity the logsumexp of its mentions. An entity attends, in each head of the
last layer, as its mentions do in the mean; what both entities of a pair attend to is the pair's context:

    a = Σ_heads A_head ∘ A_tail, divided by its sum over the pieces        c = Σ_pieces a · state
    z_head = tanh(W [e_head ; c])        z_tail = tanh(W' [e_tail ; c])
    logits = Σ_blocks z_headᵀ W_r z_tail + b_r, a block of z_head with the same block of z_tail alone

Class 0 is the threshold: relations with higher logits are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.ragged import IntArray
from data_shards.text.word_pieces import WordPieces
from spe_dist.document_relations.atlop_documents import AtlopBatch, AtlopDocuments
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.document_relations.model import DocumentModel, Markers
from spe_dist.documents.marked_pieces import with_markers
from spe_dist.models.sentence_encoder import SentenceEncoder

STAR = "*"
OWN_THRESHOLD = 0.5  # the score of a relation whose logit is the threshold's
_TINY = 1e-5  # of the published program
_PAIRS_AT_A_TIME = 512  # each takes 200 kB with vectors of 768 in blocks of 64


def adaptive_threshold_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over pairs of two cross-entropies, fp32.

    Of each true relation among the true ones and the threshold, which it is to exceed; of the threshold among itself
    and all other relations, which it is to exceed.

    Args:
        logits: [N, 1 + R].
        targets: [N, 1 + R] of 0 and 1; class 0, the threshold, does not count.
    """
    true = targets.bool()
    others, threshold = ~true, torch.zeros_like(true)
    true[:, 0], others[:, 0], threshold[:, 0] = False, True, True
    logits = logits.float()
    among_true = logits.masked_fill(~(true | threshold), float("-inf")).log_softmax(dim=1)
    among_others = logits.masked_fill(~others, float("-inf")).log_softmax(dim=1)
    return -among_true[true].sum() - among_others[:, 0].sum()


def localized_context(attention: Tensor, states: Tensor, pairs: Tensor) -> Tensor:
    """Contexts of pairs of entities of a document, [N, H] fp32.

    Args:
        attention: attention of entities, [E, heads, P] fp32.
        states: [P, H] fp32.
        pairs: [N, 2] entities.
    """
    of_pieces = attention.permute(2, 0, 1)
    products = (of_pieces @ of_pieces.transpose(1, 2)) / attention.shape[1]  # [P, E, E]: the mean over heads
    weights = products[:, pairs[:, 0], pairs[:, 1]]
    return (weights / (weights.sum(0) + _TINY)).T @ states


def entity_vectors(mentions: Tensor, entities: Tensor, size: int) -> Tensor:
    """The logsumexp over the mentions of each entity, [V, H].

    Args:
        mentions: vectors, [M, H] fp32.
        entities: entities of each mention, [M]; each of the V occurs.
        size: V.
    """
    with torch.no_grad():  # a shift, which cancels out
        at = entities[:, None].expand_as(mentions)
        highest = mentions.new_full((size, mentions.shape[1]), float("-inf")).scatter_reduce(0, at, mentions, "amax")
    sums = torch.zeros_like(highest).index_add(0, entities, (mentions - highest[entities]).exp())
    return sums.log() + highest


class GroupedBilinear(nn.Module):
    """Bilinear forms of each block of one vector with the same block of another, added up.

    Args:
        size: d, of the vectors.
        block_size: k, which divides d.
        classes: C, outputs.
    """

    def __init__(self, size: int, *, block_size: int, classes: int) -> None:
        super().__init__()
        self.block_size = block_size
        self.forms = nn.Linear(size * block_size, classes)

    def forward(self, heads: Tensor, tails: Tensor) -> Tensor:
        """Logits [N, C] of vectors [N, d]."""
        heads, tails = (x.unflatten(1, (-1, self.block_size)) for x in (heads, tails))
        return self.forms((heads.unsqueeze(3) * tails.unsqueeze(2)).flatten(1))


class AtlopHead(nn.Module):
    """Vectors of entities and contexts of pairs → logits of pairs.

    Args:
        hidden_size: H, of the vectors and contexts.
        entity_size: d, of what goes into the bilinear forms.
        block_size: of these.
        classes: C, of a pair; the first one is the threshold.
    """

    def __init__(self, hidden_size: int, *, entity_size: int, block_size: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(2 * hidden_size, entity_size)
        self.tail = nn.Linear(2 * hidden_size, entity_size)
        self.bilinear = GroupedBilinear(entity_size, block_size=block_size, classes=classes)

    def forward(self, heads: Tensor, tails: Tensor, contexts: Tensor) -> Tensor:
        """Logits [N, C], fp32, of vectors [N, H]."""
        parts = []
        for of_heads, of_tails, context in zip(
            *(x.to(self.head.weight.dtype).split(_PAIRS_AT_A_TIME) for x in (heads, tails, contexts)), strict=True
        ):
            of_heads = self.head(torch.cat([of_heads, context], dim=1)).tanh()
            of_tails = self.tail(torch.cat([of_tails, context], dim=1)).tanh()
            parts.append(self.bilinear(of_heads, of_tails))
        return torch.cat(parts).float()


class AtlopModel(DocumentModel):
    """Relations between the entities of documents, by ATLOP's head.

    Args:
        encoder: gives states and attention.
        classifier: classifier of pairs.
        relations: names of its classes 1, 2, …
        threshold: least score of a relation, not below `OWN_THRESHOLD`.
        markers: what stands around every mention.
        max_labels: most relations of a pair.
    """

    classifier: AtlopHead

    def __init__(
        self,
        encoder: SentenceEncoder,
        classifier: AtlopHead,
        relations: tuple[str, ...],
        *,
        threshold: float | None,
        markers: Markers,
        max_labels: int,
    ) -> None:
        super().__init__(encoder, classifier, relations, threshold=threshold, markers=markers)
        self.max_labels = max_labels

    def encode(self, items: Sequence[DocumentGraph], word_pieces: WordPieces) -> AtlopDocuments:
        """Documents as rows, in overlapping windows."""
        mark = partial(with_markers, marker=pieces_of_star(word_pieces)) if self.markers == "star" else None
        return AtlopDocuments.of(
            items, self.relations, word_pieces, max_pieces=self.sentence_encoder.max_pieces, mark=mark
        )

    def logits(self, batch: AtlopBatch) -> Tensor:  # type: ignore[override]
        """Logits of the batch's pairs, [N, 1 + R], fp32."""
        states, attention = self._of_documents(batch)
        mentions = states.flatten(0, 1)[batch.places]
        size = sum(batch.entities_of)
        vectors = entity_vectors(mentions, batch.entities, size)
        attention = (
            torch.zeros(size, *attention.shape[1:], device=states.device).index_add(0, batch.entities, attention)
            / torch.bincount(batch.entities, minlength=size)[:, None, None]
        )
        pairs = batch.pairs.split(batch.pairs_of)
        heads, tails, contexts = [], [], []
        for of_document, own_states, own_vectors, own_attention in zip(
            pairs, states, vectors.split(batch.entities_of), attention.split(batch.entities_of), strict=True
        ):
            heads.append(own_vectors[of_document[:, 0]])
            tails.append(own_vectors[of_document[:, 1]])
            contexts.append(localized_context(own_attention, own_states, of_document))
        return self.classifier(torch.cat(heads), torch.cat(tails), torch.cat(contexts))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over pairs."""
        return adaptive_threshold_loss(logits, targets) / max(1, len(logits))

    def scores(self, logits: Tensor) -> Tensor:
        """The logistic function of how far a relation is above the threshold; 0 for those that are not predicted."""
        above = logits[:, 1:] - logits[:, :1]
        least = above.topk(min(self.max_labels, above.shape[1]), dim=1).values[:, -1:]
        return above.sigmoid() * ((above > 0) & (above >= least))

    def _of_documents(self, batch: AtlopBatch) -> tuple[Tensor, Tensor]:
        """States of documents [D, L, H] and attention of mentions [M, heads, L], windows put together, fp32."""
        states, attention = self.sentence_encoder.with_attention(batch.packed, batch.rows)
        lengths, longest = batch.rows.lengths, batch.times.shape[1]
        kept = batch.is_kept.split(lengths)
        around = [(first, longest - first - length) for first, length in zip(batch.first_places, lengths, strict=True)]
        in_places = [
            nn.functional.pad(of_window.float() * is_kept[:, None], (0, 0, *margins))
            for of_window, is_kept, margins in zip(states.split(lengths), kept, around, strict=True)
        ]
        sums = states.new_zeros(*batch.times.shape, states.shape[1], dtype=torch.float32)
        documents = sums.index_add(0, batch.documents, torch.stack(in_places)) / batch.times[:, :, None]
        attended = torch.cat(
            [
                nn.functional.pad(of_window * is_kept, margins).transpose(0, 1)
                for of_window, is_kept, margins in zip(attention, kept, around, strict=True)
            ]
        )
        mentions = attended.new_zeros(len(batch.places), *attended.shape[1:]).index_add(0, batch.mentions, attended)
        return documents, mentions / mentions.sum(dim=2, keepdim=True).clamp(min=_TINY)


def pieces_of_star(word_pieces: WordPieces) -> IntArray:
    """The pieces of `*` by itself.

    Raises:
        UserError: the tokenizer does not know it.
    """
    pieces = word_pieces.encode_words([STAR]).values.astype(np.int64)
    if not len(pieces) or word_pieces.special_ids.unk in pieces:
        raise UserError(
            f"the tokenizer does not know {STAR!r}, which marks mentions: set --model.markers none, or start from "
            "another encoder"
        )
    return pieces
