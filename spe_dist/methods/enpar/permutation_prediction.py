"""PP, permutation prediction (ENPAR paper): in which of 120 orders do a sentence's five parts stand?"""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.methods.enpar.rearrangements import NUM_CLASSES
from spe_dist.models.transform_block import INITIAL_STD


class PermutationPrediction(nn.Module):
    """Pair vector → logits over the permutations.

    Args:
        pair_size: size of a pair vector.
    """

    def __init__(self, pair_size: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(pair_size, NUM_CLASSES)
        nn.init.normal_(self.classifier.weight, std=INITIAL_STD)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pairs: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Score permuted sentences.

        Args:
            pairs: vectors of their pairs, [Q, pair_size].
            classes: their permutations, [Q].

        Returns:
            Cross-entropy of each [Q] in fp32, and whether its permutation was found [Q] bool.
        """
        logits = self.classifier(pairs).float()
        losses = nn.functional.cross_entropy(logits, classes, reduction="none")
        return losses, logits.detach().argmax(dim=1) == classes
