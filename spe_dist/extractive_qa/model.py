"""The model: one linear layer that scores each piece as the beginning and as the end of the answer (BERT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences
from spe_dist.finetuning.losses import Losses
from spe_dist.models.sentence_encoder import SentenceEncoder

_BEHIND = float("-inf")  # the end of a sequence that is shorter than the longest


@dataclass(frozen=True)
class QaSettings:
    """What, with the weights, rebuilds a model: see `QaModelConfig`."""

    max_pieces: int
    max_question: int
    stride: int
    max_answer: int
    n_best: int
    language: str


class ExtractiveQaModel(nn.Module):
    """Scores where an answer begins and ends.

    Args:
        sentence_encoder: reads question and window.
        settings: how contexts are read.
    """

    def __init__(self, sentence_encoder: SentenceEncoder, settings: QaSettings) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder
        self.settings = settings
        self.ends = nn.Linear(sentence_encoder.hidden_size, 2)

    def scores(self, packed: PackedSequences) -> Tensor:
        """Logits of beginning and end in fp32, [S, longest, 2]; -inf behind the end of a sequence."""
        states = self.sentence_encoder(packed)
        logits = self.ends(states.to(self.ends.weight.dtype)).float()
        sequences = len(packed.sequence_starts) - 1
        row = torch.repeat_interleave(
            torch.arange(sequences, device=logits.device),
            packed.sequence_starts.diff().long(),
            output_size=len(packed.piece_ids),
        )
        padded = logits.new_full((sequences, packed.longest, 2), _BEHIND)
        return padded.index_put((row, packed.positions), logits)

    def forward(self, packed: PackedSequences, targets: Tensor, weights: Tensor) -> Losses:
        """Cross-entropy over the pieces of a sequence, mean of beginning and end.

        Args:
            packed: S sequences.
            targets: places of A answers of each, first and last piece, [S, A, 2].
            weights: weights of the answers, 0 of those that there are not; those of a sequence sum to 1, [S, A].
        """
        scores = self.scores(packed)
        of_answers = scores.log_softmax(1).gather(1, targets).mean(2)
        loss = -(of_answers * weights).sum(1).mean()
        right = ((scores.argmax(1)[:, None] == targets).all(2) & (weights > 0)).any(1).sum()
        return Losses(loss[None], right[None], torch.tensor([len(targets)]))
