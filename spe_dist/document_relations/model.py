"""The model of ERICA's document experiments: entities are means of states, pairs of them go through a bilinear form.

    e = W · mean over mentions        s = [e_head ; D(δ)]  t = [e_tail ; D(−δ)]       logits = Bilinear(s, t)

δ is the bucket of how far the head's first mention begins after the tail's. Class 0 is a pair without a relation; the
other classes are not exclusive. `DocumentModel` has the encoder and the mean vectors; what makes logits of them is
`PairClassifier`, a module of its own. ATLOP's model (`atlop.py`) is derived from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.text.word_pieces import WordPieces
from spe_dist.document_relations.encoded_documents import DISTANCES, EncodedDocuments, PairBatch, forwards
from spe_dist.document_relations.graph import DocumentGraph, PairScores
from spe_dist.documents.marked_pieces import with_numbered_markers
from spe_dist.finetuning.losses import Losses
from spe_dist.methods.erica.markers import PAIRS
from spe_dist.models.sentence_encoder import SentenceEncoder

LOSSES = ("relation",)
Markers = Literal["none", "star", "numbered"]
_MOST_PIECES = 4096  # of a forward of prediction
_PAIRS_AT_A_TIME = 2048  # each takes 57 kB with 97 classes


class PairClassifier(nn.Module):
    """Vectors of entities → logits of pairs.

    Args:
        hidden_size: H, of the vectors.
        entity_size: after the linear layer.
        distance_size: size of a distance's embedding.
        classes: C, of a pair.
    """

    def __init__(self, hidden_size: int, *, entity_size: int, distance_size: int, classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden_size, entity_size)
        self.distances = nn.Embedding(DISTANCES, distance_size)
        size = entity_size + distance_size
        self.bilinear = nn.Bilinear(size, size, classes)

    def forward(self, vectors: Tensor, pairs: Tensor, distances: Tensor) -> Tensor:
        """Logits [N, C], fp32.

        Args:
            vectors: vectors of entities, [V, H].
            pairs: heads and tails among them, [N, 2].
            distances: buckets of the pairs, [N].
        """
        entities = self.projection(vectors.to(self.projection.weight.dtype))
        parts = []
        for (head, tail), bucket in zip(
            (part.T for part in pairs.split(_PAIRS_AT_A_TIME)), distances.split(_PAIRS_AT_A_TIME), strict=True
        ):
            heads = torch.cat([entities[head], self.distances(bucket)], dim=1)
            tails = torch.cat([entities[tail], self.distances(DISTANCES - bucket)], dim=1)
            parts.append(self._bilinear_form(heads, tails))
        return torch.cat(parts).float()

    def _bilinear_form(self, heads: Tensor, tails: Tensor) -> Tensor:
        """What `self.bilinear` computes, whose backward pass takes thirty times as long."""
        classes, size, _ = self.bilinear.weight.shape
        of_heads = (heads @ self.bilinear.weight.permute(1, 0, 2).flatten(1)).view(-1, classes, size)
        return torch.einsum("nck,nk->nc", of_heads, tails) + self.bilinear.bias


class DocumentModel(nn.Module):
    """Relations between the entities of documents.

    Args:
        encoder: gives states.
        classifier: classifier of pairs; its first class is a pair without a relation.
        relations: names of its classes 1, 2, …
        threshold: least score of a relation; None until it is chosen on dev.
        markers: what stands around every mention; numbered ones are those that ERICA is pre-trained with, in whose
            runs they are the rows of the word embeddings behind the vocabulary.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        classifier: nn.Module,
        relations: tuple[str, ...],
        *,
        threshold: float | None = None,
        markers: Markers = "none",
    ) -> None:
        super().__init__()
        self.sentence_encoder = encoder
        self.classifier = classifier
        self.relations = relations
        self.threshold = threshold
        self.markers = markers

    def encode(self, items: Sequence[DocumentGraph], word_pieces: WordPieces) -> EncodedDocuments:
        """Documents as rows."""
        number = partial(with_numbered_markers, first_id=word_pieces.vocab_size, pairs=PAIRS)
        return EncodedDocuments.of(
            items,
            self.relations,
            word_pieces,
            max_pieces=self.sentence_encoder.max_pieces,
            mark=number if self.markers == "numbered" else None,
        )

    def logits(self, batch: PairBatch) -> Tensor:
        """Logits of the batch's pairs, [N, 1 + R], fp32."""
        vectors = batch.pooled.means(self.sentence_encoder(batch.packed))
        return self.classifier(vectors, batch.pairs, batch.distances)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over pairs and classes."""
        sum_of_losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        return sum_of_losses / max(1, logits.numel())

    def scores(self, logits: Tensor) -> Tensor:
        """Scores of the relations, 0 to 1, [N, R]."""
        return logits[:, 1:].sigmoid()

    def forward(self, batch: PairBatch) -> Losses:
        """The loss; a pair is right if its highest class is one of its own."""
        logits = self.logits(batch)
        correct = batch.targets.gather(1, logits.argmax(1, keepdim=True)).sum().long()
        return Losses(self.loss(logits, batch.targets)[None], correct[None], torch.tensor([len(logits)]))


@torch.no_grad()
def predict(model: DocumentModel, rows: EncodedDocuments, device: torch.device) -> list[DocumentGraph]:
    """Documents with the relations that a model finds; before its threshold is chosen, with all scores instead.

    Args:
        model: in evaluation mode, on the device.
        rows: rows of the model's relations and tokenizer.
        device: to compute on.
    """
    found: list[DocumentGraph | None] = [None] * len(rows)
    for numbers in forwards(rows.num_pieces, _MOST_PIECES):
        pairs = [rows.documents[row].all_pairs() for row in numbers]
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = model.logits(rows.batch(numbers, pairs).to(device))
        scores = np.split(model.scores(logits).cpu().numpy(), np.cumsum([len(one) for one in pairs])[:-1])
        for row, of_document, of_pairs in zip(numbers.tolist(), pairs, scores, strict=True):
            item, entities = rows.items[row], rows.documents[row].pieces.numbers
            scored = DocumentGraph(
                item.title, item.nodes, (), item.document, PairScores(entities[of_document], of_pairs, model.relations)
            )
            found[row] = scored if model.threshold is None else scored.decided(model.threshold)
    return [one for one in found if one is not None]
