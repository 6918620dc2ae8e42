"""The model: a candidate is the mean of its states, first in a window, then over windows; one linear layer (ERICA)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences
from spe_dist.finetuning.losses import Losses
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.multi_choice.rows import Candidates


@dataclass(frozen=True)
class ChoiceSizes:
    """What, with the weights, rebuilds a model; see `ChoiceModelConfig`."""

    masks: int
    """Rows of the word embeddings behind the vocabulary that stand for masked candidates."""
    max_pieces: int
    max_windows: int | None
    max_query: int
    language: str


class MultiChoiceModel(nn.Module):
    """Scores the candidates of questions.

    Args:
        sentence_encoder: reads a window; with rows for masks.
        sizes: what it reads.
    """

    def __init__(self, sentence_encoder: SentenceEncoder, sizes: ChoiceSizes) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder
        self.sizes = sizes
        self.candidates = nn.Linear(sentence_encoder.hidden_size, 1)

    def scores(self, packed: PackedSequences, candidates: Candidates) -> Tensor:
        """Logits in fp32, [questions, candidates.most]; -inf for candidates that are not read, and beyond a list."""
        vectors = candidates.pooled.means(self.sentence_encoder(packed))
        found = self.candidates(vectors.to(self.candidates.weight.dtype)).float()[:, 0]
        nothing = found.new_full((len(candidates.answers), candidates.most), -torch.inf)
        return nothing.index_put((candidates.question, candidates.number), found)

    def forward(self, packed: PackedSequences, candidates: Candidates) -> Losses:
        """Cross-entropy over the candidates of a question, mean over questions whose answer is read; 0 if none is."""
        scores, answers = self.scores(packed, candidates), candidates.answers
        known = answers >= 0
        scores = torch.where(known[:, None], scores, 0.0)  # no question without a candidate: its softmax is no number
        losses = nn.functional.cross_entropy(scores, answers.clamp(min=0), reduction="none") * known
        right = (known & (scores.argmax(1) == answers)).sum()
        return Losses((losses.sum() / known.sum().clamp(min=1))[None], right[None], torch.tensor([len(answers)]))
